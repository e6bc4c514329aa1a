import type { ChatEvent, ChatInput } from "../../api/client_chat.ts";
import type { EngineStats } from "../../core/engine_stats.ts";
import type { TextGenerationPayload } from "../../core/task.ts";
import { type Cluster, startCluster } from "../support/cluster.ts";
import type { ClusterNode } from "../support/cluster_node.ts";
import { engineStats } from "../support/engine_stats.ts";
import { setLink } from "../support/instance_links.ts";
import { type ToldTokens, toldTokens } from "../support/told_tokens.ts";
import { heardOfMemory, placeOn } from "./three_nodes.ts";

/** How long nodes may take for what no bar is about. */
const PATIENCE_MS = 60_000;

/** An instance of the model, and its node. */
export interface PlacedInstance {
  readonly node: ClusterNode;
  readonly model: string;
  readonly instanceId: string;
}

/** Two processes that are a node each, of which one reads long prompts for the other. */
export class PrefillProcesses implements AsyncDisposable {
  private constructor(
    readonly cluster: Cluster,
    readonly decode: PlacedInstance,
    readonly prefill: PlacedInstance,
  ) {}

  static async start(modelPath: string): Promise<PrefillProcesses> {
    await using all = new AsyncDisposableStack();
    const env = { ENABLE_DISAGGREGATION: "true", EXO_REMOTE_PREFILL: "always" };
    const cluster = all.use(await startCluster({ nodes: 2, engine: "real", env }));
    await cluster.met(PATIENCE_MS);
    await cluster.agree(PATIENCE_MS);
    await heardOfMemory(cluster);
    const decode = await placed(cluster.node(0), modelPath);
    const prefill = await placed(cluster.node(1), modelPath);
    await setLink(decode.node.client.url, [prefill.instanceId], [decode.instanceId]);
    await cluster.agree(PATIENCE_MS);
    all.move();
    return new PrefillProcesses(cluster, decode, prefill);
  }

  /** The answer of the decoding node. */
  ask(
    payload: TextGenerationPayload,
    onEvent?: (event: ChatEvent) => void,
  ): Promise<ToldTokens> {
    return askOf(this.decode, payload, onEvent);
  }

  /** What an engine has told its own node of what it did; zeros before it has. */
  async counts({ node, instanceId }: PlacedInstance): Promise<EngineStats> {
    return (await node.state()).instanceStats[instanceId] ?? engineStats();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.cluster[Symbol.asyncDispose]();
  }
}

/** A process that is a node by itself, with an instance. */
export async function startAlone(modelPath: string): Promise<AsyncDisposable & PlacedInstance> {
  const cluster = await startCluster({ nodes: 1, engine: "real" });
  try {
    await cluster.agree(PATIENCE_MS);
    await heardOfMemory(cluster);
    const dispose = () => cluster[Symbol.asyncDispose]();
    return { ...await placed(cluster.node(0), modelPath), [Symbol.asyncDispose]: dispose };
  } catch (cause) {
    await cluster[Symbol.asyncDispose]();
    throw cause;
  }
}

/** What a node's API tells of an answer. */
export function askOf(
  { node, model }: PlacedInstance,
  payload: TextGenerationPayload,
  onEvent?: (event: ChatEvent) => void,
): Promise<ToldTokens> {
  const { messages, sampling, maxTokens, ignoreEos, usePrefixCache, seed } = payload;
  const turns = messages.map(({ content }) => ({ role: "user" as const, content }));
  const input: ChatInput = {
    ...{ model, messages: turns, ...sampling, maxTokens, ignoreEos, usePrefixCache },
    seed: Number(seed),
  };
  return toldTokens(node.client.url, input, onEvent);
}

async function placed(node: ClusterNode, modelPath: string): Promise<PlacedInstance> {
  return { node, ...await placeOn(node, modelPath) };
}
