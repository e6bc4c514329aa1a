import assert from "node:assert/strict";
import type { z } from "zod";
import type { Chunk } from "../../core/chunk.ts";
import { type InstanceId, InstanceLinkId, type ModelId } from "../../core/ids.ts";
import type { RemotePrefillMode } from "../../core/prefill_choice.ts";
import type { TextGenerationPayload } from "../../core/task.ts";
import type { FakeScript } from "../../engines/fake.ts";
import { MemoryNetwork } from "../../net/memory.ts";
import type { Link, Transport } from "../../net/transport.ts";
import type { Node } from "../../node/node.ts";
import { eventually } from "./eventually.ts";
import { TempDir } from "./temp_dir.ts";
import { commandId, createInstance, REAL_ENGINE, startTestNode, until } from "./test_node.ts";

type Script = z.input<typeof FakeScript>;

/** How two such nodes are started. */
export interface PrefillNodesOptions {
  /** What happens to the runner that prefills. */
  readonly script?: Script;
  /** When prompts are read by the other. */
  readonly mode?: RemotePrefillMode;
  /** How many times as long its work takes by the clock of the runner that decodes. */
  readonly clockRate?: number;
}

const never = new AbortController().signal;

/** A node with an instance of the model. */
export interface PrefillMember {
  readonly node: Node;
  readonly transport: Transport;
  readonly dataDir: string;
  readonly instanceId: InstanceId;
}

/**
 * Two nodes of this process with the real engine, of which one reads long prompts for the other:
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
    { script = {}, mode = "always", clockRate = 1 }: PrefillNodesOptions = {},
  ): Promise<PrefillNodes> {
    const [dir, network] = [await TempDir.make(), new MemoryNetwork()];
    const start = async (name: string, own: Script, rate = 1) => {
      let transport: Transport | undefined;
      const { runner } = REAL_ENGINE;
      assert(runner);
      const node = await startTestNode(`${dir.path}/${name}`, own, {
        name,
        runner: {
          main: runner.main,
          env: { ...runner.env, EXO_REMOTE_PREFILL: mode, EXO_TEST_CLOCK_RATE: String(rate) },
        },
        connect: ({ nodeId }) => Promise.resolve(transport = onLoopback(network.join(nodeId))),
      });
      const { modelId } = await node.addModel(modelPath);
      const instanceId = await createInstance(node, modelId, {
        nodeIds: [node.nodeId],
        exact: true,
      });
      const member = { node, transport: transport as unknown as Transport, instanceId };
      return { ...member, dataDir: `${dir.path}/${name}`, modelId };
    };
    const decode = await start("decode", {}, clockRate);
    const prefill = await start("prefill", script);
    const nodes = new PrefillNodes(dir, decode.modelId, decode, prefill);
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

  /** Prompt tokens that a member's engine has computed so far. */
  prefilled({ node }: PrefillMember): number {
    const [stats] = [...node.engineStats().values()];
    return stats?.prefillTokens ?? 0;
  }

  /** Requests that a member's engine has told of. */
  requests({ node }: PrefillMember): number {
    const [stats] = [...node.engineStats().values()];
    return stats?.requests ?? 0;
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

  /** The process of the prefilling node dies: nobody hears its last words. */
  async killPrefill(): Promise<void> {
    await this.prefill.transport.close();
    await this.prefill.node.stop();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([this.decode.node.stop(), this.prefill.node.stop()]);
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

/** As the transport is, but that bulk bytes find their way: memory has no address for a socket. */
function onLoopback(transport: Transport): Transport {
  const address = "/ip4/127.0.0.1/tcp/1";
  return new Proxy(transport, {
    get(target, name) {
      if (name === "links") return () => target.links().map((link): Link => ({ ...link, address }));
      const value = Reflect.get(target, name, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}
