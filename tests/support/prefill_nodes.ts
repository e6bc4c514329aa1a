import assert from "node:assert/strict";
import type { z } from "zod";
import type { Chunk } from "../../core/chunk.ts";
import type { EngineStats } from "../../core/engine_stats.ts";
import { type InstanceId, InstanceLinkId, type ModelId } from "../../core/ids.ts";
import type { RemotePrefillMode } from "../../core/prefill_choice.ts";
import type { TextGenerationPayload } from "../../core/task.ts";
import type { FakeScript } from "../../engines/fake.ts";
import { nodesByRank } from "../../core/instance.ts";
import { MemoryNetwork } from "../../net/memory.ts";
import type { Link, Transport } from "../../net/transport.ts";
import type { Node } from "../../node/node.ts";
import { engineStats } from "./engine_stats.ts";
import { eventually } from "./eventually.ts";
import { Orders } from "./orders.ts";
import { type Member, untilLinked } from "./several_nodes.ts";
import { TempDir } from "./temp_dir.ts";
import { commandId, createInstance, REAL_ENGINE, startTestNode, until } from "./test_node.ts";

type Script = z.input<typeof FakeScript>;

/** How two such nodes are started. */
export interface PrefillNodesOptions {
  /** What happens to the runner that prefills. */
  readonly script?: Script;
  /** Whether the runners that prefill obey a test's orders, and no script. */
  readonly isOrdered?: boolean;
  /** When prompts are read by the other. */
  readonly mode?: RemotePrefillMode;
  /** How many times as long its work takes by the clock of the runner that decodes. */
  readonly clockRate?: number;
  /** Over how many nodes, as a pipeline, an instance is; over one each if left out. */
  readonly ranks?: { readonly prefill: number; readonly decode: number };
}

/** Where all of them are. */
const LOOPBACK = "/ip4/127.0.0.1/tcp/1";

const ONE_EACH = { prefill: 1, decode: 1 };

const ORDERED_RUNNER = new URL("./ordered_runner_main.ts", import.meta.url).pathname;

const never = new AbortController().signal;

/** An instance of the model, and the node of its first rank. */
export interface PrefillMember extends Member {
  readonly instanceId: InstanceId;
  /** The nodes of all its ranks. */
  readonly nodes: readonly Node[];
}

/**
 * Nodes of this process with the real engine, of which some read long prompts for the others:
 * messages go through memory, keys and values over TLS sockets on loopback.
 */
export class PrefillNodes {
  private constructor(
    readonly dir: TempDir,
    readonly modelId: ModelId,
    readonly decode: PrefillMember,
    readonly prefill: PrefillMember,
  ) {}

  static async start(
    modelPath: string,
    { script = {}, isOrdered = false, mode = "always", clockRate = 1, ranks = ONE_EACH }:
      PrefillNodesOptions = {},
  ): Promise<PrefillNodes> {
    const dir = await TempDir.make();
    const network = new MemoryNetwork({ addressOf: () => LOOPBACK });
    const { runner } = REAL_ENGINE;
    assert(runner);
    const start = async (name: string, own: Script, main: string, rate = 1): Promise<Member> => {
      let transport: Transport | undefined;
      const folder = `${dir.path}/${name}`;
      const env = { EXO_REMOTE_PREFILL: mode, EXO_TEST_CLOCK_RATE: String(rate) };
      const node = await startTestNode(folder, own, {
        name,
        runner: { main, env: { ...runner.env, ...env, EXO_TEST_FOLDER: folder } },
        connect: ({ nodeId }) => Promise.resolve(transport = onLoopback(network.join(nodeId))),
      });
      const member = { node, transport: transport as unknown as Transport };
      return { ...member, dataDir: folder };
    };
    const names = (name: string, count: number) =>
      Array.from({ length: count }, (_, rank) => `${name}-${rank}`);
    const decode: Member[] = [];
    const prefill: Member[] = [];
    for (const name of names("decode", ranks.decode)) {
      decode.push(await start(name, {}, runner.main, clockRate));
    }
    const reader = isOrdered ? ORDERED_RUNNER : runner.main;
    for (const name of names("prefill", ranks.prefill)) {
      prefill.push(await start(name, script, reader));
    }
    const modelId = await addToAll([...decode, ...prefill], modelPath);
    const [asks, reads] = [
      await instanceOver(decode, modelId),
      await instanceOver(prefill, modelId),
    ];
    const nodes = new PrefillNodes(dir, modelId, asks, reads);
    await nodes.#link();
    return nodes;
  }

  /** All chunks of an answer that the decoding node gives. */
  async ask(
    payload: TextGenerationPayload,
    onChunk: (chunk: Chunk) => void = () => {},
  ): Promise<Chunk[]> {
    const all: Chunk[] = [];
    const { chunks } = await this.decode.node.generate(this.modelId, payload, never);
    for await (const chunk of chunks) {
      all.push(chunk);
      onChunk(chunk);
    }
    return all;
  }

  /** What the first rank that prefills is told, if it obeys. */
  get orders(): Orders {
    return new Orders(this.prefill.dataDir);
  }

  /** Prompt tokens that a member's engine has computed so far. */
  prefilled(member: PrefillMember): number {
    return this.counts(member).prefillTokens;
  }

  /** What a member's engine has told of what it did; zeros before it has. */
  counts({ node }: PrefillMember): EngineStats {
    const [stats] = [...node.engineStats().values()];
    return stats ?? engineStats();
  }

  /** Resolves once the way between them has been measured, as happens soon after they met. */
  async measured(): Promise<void> {
    const { node } = this.decode;
    const from = `${node.nodeId}`;
    await eventually("the way to the other node is measured", () => {
      return [...node.telemetry().links].some(([key, { bandwidthBitsPerSecond }]) =>
        key.startsWith(from) && bandwidthBitsPerSecond !== undefined
      );
    });
  }

  /** The runners of the prefilling instance die, but for that of the first rank; how many. */
  killOtherRanks(): number {
    const { nodes, node: first } = this.prefill;
    const pids = nodes.filter((node) => node !== first).flatMap((node) => [
      ...node.runnerPids().values(),
    ]);
    for (const pid of pids) Deno.kill(pid, "SIGKILL");
    return pids.length;
  }

  /** The prefilling node ends: nobody hears its last words. `PrefillProcesses` has one that dies. */
  async killPrefill(): Promise<void> {
    await this.prefill.transport.close();
    await this.prefill.node.stop();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const all = [...this.decode.nodes, ...this.prefill.nodes];
    await Promise.all(all.map((node) => node.stop()));
    await this.dir[Symbol.asyncDispose]();
  }

  async #link(): Promise<void> {
    const { node } = this.decode;
    const { instanceId } = this.prefill;
    const linkId = InstanceLinkId.parse(node.newId());
    await until(node, "both instances are known", ({ instances }) => instances.has(instanceId));
    await node.submit({
      type: "SetInstanceLink",
      commandId: commandId(node),
      linkId,
      prefillInstances: [instanceId],
      decodeInstances: [this.decode.instanceId],
    });
    await until(
      node,
      "the way to it is known, and how fast it reads",
      ({ connections, runners, instanceLinks }) =>
        instanceLinks.has(linkId) &&
        connections.get(node.nodeId)?.has(this.prefill.node.nodeId) === true &&
        [...runners.values()].filter((one) => one.prefillTokensPerSecond).length === 2,
    );
  }
}

/** The model on all of them, once they know all ways between them, and where ranks can meet. */
async function addToAll(members: readonly Member[], modelPath: string): Promise<ModelId> {
  const [modelId] = await Promise.all(
    members.map(async ({ node }) => (await node.addModel(modelPath)).modelId),
  );
  assert(modelId);
  await untilLinked(...members);
  for (const { node: { nodeId } } of members) {
    for (const { node } of members) {
      await until(node, "all addresses are known", ({ nodes }) => {
        return (nodes.get(nodeId)?.network.length ?? 0) > 0;
      });
    }
  }
  return modelId;
}

async function instanceOver(members: readonly Member[], modelId: ModelId): Promise<PrefillMember> {
  const nodes = members.map(({ node }) => node);
  const [node] = nodes;
  assert(node);
  const nodeIds = nodes.map(({ nodeId }) => nodeId);
  const request = { nodeIds, exact: true, minNodes: nodes.length };
  const instanceId = await createInstance(node, modelId, request);
  const instance = node.state().instances.get(instanceId);
  assert(instance);
  const [first] = nodesByRank(instance);
  const member = members.find(({ node: { nodeId } }) => nodeId === first);
  assert(member);
  return { ...member, instanceId, nodes };
}

/** As the transport is, but that bulk bytes find their way: memory has no address for a socket. */
function onLoopback(transport: Transport): Transport {
  const address = LOOPBACK;
  return new Proxy(transport, {
    get(target, name) {
      if (name === "links") return () => target.links().map((link): Link => ({ ...link, address }));
      const value = Reflect.get(target, name, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}
