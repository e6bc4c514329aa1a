/** Real nodes, `exo serve` each, that find each other: on loopback, or on a machine each. */
import assert from "node:assert/strict";
import type { z } from "zod";
import type { FakeScript } from "../../engines/fake.ts";
import { ClusterNode } from "./cluster_node.ts";
import { loggedState } from "./cluster_state.ts";
import { eventually } from "./eventually.ts";
import { VirtualNetwork } from "../../bench/netns.ts";
import { TempDir } from "./temp_dir.ts";

/** A model that is small enough for each node to have. */
export const TINY_MODEL = new URL("../golden/models/tiny-tied", import.meta.url).pathname;

/** What a cluster is started with. */
export interface ClusterOptions {
  readonly nodes: number;
  /** A network namespace for each node (`whyNoNetwork` tells whether there can be); else loopback. */
  readonly isolated?: boolean;
  /** Of the network's loss and jitter. */
  readonly seed?: number;
  /** What the fake engines of all nodes do; `real`: engines that compute. */
  readonly engine?: z.input<typeof FakeScript> | "real";
  readonly env?: Readonly<Record<string, string>>;
  /** Flags of each node, by its number; the last one of a kind counts. */
  readonly flagsOf?: (index: number) => readonly string[];
  /** Whether nodes can tell what is alive in them. */
  readonly isMeasured?: boolean;
  /** Whether runners obey a test's orders (`ClusterNode.orders`); nodes are measured, then. */
  readonly isOrdered?: boolean;
  /** Nodes that are not started at once; all are when it is left out. */
  readonly startLater?: readonly number[];
}

/** Starts nodes that see nobody but each other; all of it is gone when the cluster is disposed. */
export async function startCluster(options: ClusterOptions): Promise<Cluster> {
  await using all = new AsyncDisposableStack();
  const dir = all.use(await TempDir.make());
  const { nodes: machines, seed = 1, isolated = false } = options;
  const network = isolated ? all.use(await VirtualNetwork.start({ machines, seed })) : undefined;
  const nodes = await makeNodes(dir.path, network, options);
  all.defer(async () => {
    const running = nodes.filter(({ isRunning }) => isRunning);
    await Promise.all(running.map((node) => node.end("SIGKILL")));
  });
  const first = nodes.filter(({ index }) => !options.startLater?.includes(index));
  // All have started or failed before any of them is ended.
  const started = await Promise.allSettled(first.map((node) => node.start()));
  for (const result of started) if (result.status === "rejected") throw result.reason;
  return new Cluster(nodes, network, all.move());
}

/** Nodes of one namespace that have not started yet. */
async function makeNodes(
  dir: string,
  network: VirtualNetwork | undefined,
  { nodes: count, engine = {}, env, flagsOf = () => [], ...options }: ClusterOptions,
): Promise<ClusterNode[]> {
  const { isMeasured = false, isOrdered = false } = options;
  const namespace = `exo-test-${crypto.randomUUID()}`;
  const script = `${dir}/script.json`;
  await Deno.writeTextFile(script, JSON.stringify(engine));
  const fake = { EXO_ENGINE: "fake", EXO_ENGINE_SCRIPT: script };
  return await Promise.all(
    waysToMeet(count, network).map(async (way, index) => {
      const folder = `${dir}/node-${index}`;
      await Deno.mkdir(folder);
      return new ClusterNode({
        ...{ index, folder, network, isMeasured, isOrdered },
        env: { ...(engine === "real" ? {} : fake), ...env },
        flags: ["--namespace", namespace, ...way, ...flagsOf(index)],
      });
    }),
  );
}

/** Nodes of one namespace, numbered from 0. */
export class Cluster implements AsyncDisposable {
  readonly nodes: readonly ClusterNode[];
  readonly #network: VirtualNetwork | undefined;
  readonly #owned: AsyncDisposableStack;

  /** `owned` is disposed with it, and ends the nodes. */
  constructor(
    nodes: readonly ClusterNode[],
    network: VirtualNetwork | undefined,
    owned: AsyncDisposableStack,
  ) {
    this.nodes = nodes;
    this.#network = network;
    this.#owned = owned;
  }

  get network(): VirtualNetwork {
    assert.ok(this.#network, "the cluster is isolated");
    return this.#network;
  }

  /** The node of this number. */
  node(index: number): ClusterNode {
    const node = this.nodes[index];
    assert.ok(node, `node ${index}`);
    return node;
  }

  /** The node that has this id. */
  byId(nodeId: string | undefined): ClusterNode {
    const node = this.running.find((node) => node.nodeId === nodeId);
    assert.ok(node, `a node ${nodeId} runs`);
    return node;
  }

  get running(): readonly ClusterNode[] {
    return this.nodes.filter(({ isRunning }) => isRunning);
  }

  /** The master that all running nodes follow. @throws when they do not follow one. */
  async master(): Promise<ClusterNode> {
    const states = await Promise.all(this.running.map((node) => node.state()));
    const ids = new Set(states.map(({ session }) => session?.masterNodeId));
    assert.equal(ids.size, 1, `one master, not ${[...ids]}`);
    return this.byId(ids.values().next().value);
  }

  /** Ms until all running nodes (or `nodes`) hold the same state. @throws when that takes longer. */
  async agree(limitMs: number, nodes: readonly ClusterNode[] = this.running): Promise<number> {
    const startedAt = performance.now();
    let states: string[] = [];
    await eventually(`the states of ${nodes.length} nodes are equal`, async () => {
      states = await Promise.all(nodes.map(async (node) => loggedState(await node.state())));
      return new Set(states).size === 1;
    }, limitMs).catch((cause) => {
      throw new Error(`${cause.message}:\n${states.join("\n")}`, { cause });
    });
    return performance.now() - startedAt;
  }

  /** Ms until every node knows of all others and of nobody else, and of ways between all of them. */
  async met(limitMs: number, nodes: readonly ClusterNode[] = this.running): Promise<number> {
    const startedAt = performance.now();
    const ids = nodes.map(({ nodeId }) => nodeId);
    await eventually(`${ids.length} nodes have met`, async () => {
      const states = await Promise.all(nodes.map((node) => node.state()));
      return states.every(({ topology: { nodes: known, connections } }) =>
        known.length === ids.length &&
        ids.every((a) => ids.every((b) => a === b || (connections[a]?.[b]?.length ?? 0) > 0))
      );
    }, limitMs);
    return performance.now() - startedAt;
  }

  /** The last of what each node said on stderr. */
  async stderr(): Promise<string> {
    const said = await Promise.all(this.nodes.map((node) => node.stderr()));
    return said.map((text, index) => `node ${index}: ${text}`).join("\n");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#owned.disposeAsync();
  }
}

/** Flags by which nodes find each other: by themselves on a network, by address on loopback. */
function waysToMeet(count: number, network: VirtualNetwork | undefined): string[][] {
  if (network) return Array.from({ length: count }, () => []);
  const ports = freePorts(count);
  const bootstrap = ports.flatMap((port) => ["--bootstrap", `127.0.0.1:${port}`]);
  return ports.map((port) => ["--libp2p-port", `${port}`, ...bootstrap]);
}

/** Ports that nobody has right now; a node takes the next one if that has changed. */
function freePorts(count: number): number[] {
  using all = new DisposableStack();
  return Array.from({ length: count }, () => {
    const listener = all.use(Deno.listen({ hostname: "127.0.0.1", port: 0 }));
    return listener.addr.port;
  });
}
