/** How long the reconcilers' tick takes: `deno run bench/core/reconcile.ts`. */
import { apply } from "../../core/apply.ts";
import { Event } from "../../core/events.ts";
import { InstanceId, MetaInstanceId, ModelId, NodeId, RunnerId } from "../../core/ids.ts";
import { Instance } from "../../core/instance.ts";
import { MetaInstance } from "../../core/meta_instance.ts";
import { ModelCard } from "../../core/model_card.ts";
import { NO_TRIES } from "../../core/placement_turns.ts";
import { reconcileAll, type ReconcileContext } from "../../core/reconcile.ts";
import { EMPTY_STATE, type State } from "../../core/state.ts";
import { NO_TELEMETRY } from "../../core/telemetry.ts";
import { GIB } from "../../core/units.ts";

/** Wishes of each case. */
export const META_INSTANCES = 200;

/** Cluster sizes: the tick must grow no faster than they do. */
export const NODE_COUNTS: readonly number[] = [10, 100, 1_000];

/** Ticks that are timed; the median counts. */
const TICKS = 101;

/** `satisfied`: all wishes have a serving instance; `waiting`: no node has room for any. */
export type ReconcileScene = "satisfied" | "waiting";

/** One tick over a cluster: what it decided. */
export type Tick = () => { readonly events: readonly Event[] };

/** A tick over a cluster in a scene, as a master runs it once a second. */
export function reconcileTick(scene: ReconcileScene, nodeCount: number): Tick {
  const nodeIds = Array.from({ length: nodeCount }, (_, n) => NodeId.parse(`node-${n}`));
  let state = clusterOf(scene, nodeIds);
  let tries = NO_TRIES;
  let uptime = 0;
  const free = { ramTotalBytes: 16 * GIB, ramAvailableBytes: 12 * GIB };
  return () => {
    uptime += 1_000;
    const telemetry = {
      ...NO_TELEMETRY,
      memory: new Map(nodeIds.map((nodeId) => [nodeId, free])),
      lastSeen: new Map(nodeIds.map((nodeId) => [nodeId, uptime])),
    };
    const freshId = InstanceId.parse(`fresh-${uptime}`);
    const context: ReconcileContext = {
      telemetry,
      now: uptime,
      uptime,
      cards: new Map(),
      freshId,
    };
    const events: Event[] = [];
    tries = reconcileAll(state, { ...context, tries }, (decision) => {
      events.push(...decision);
      return state = decision.reduce(committed, state);
    });
    return { events };
  };
}

function clusterOf(scene: ReconcileScene, nodeIds: readonly NodeId[]): State {
  const metas = Array.from({ length: META_INSTANCES }, (_, n) => metaOf(scene, n));
  const nodes = nodeIds.map((nodeId): Event => ({
    type: "NodeStarted",
    nodeId,
    incarnation: 1,
    info: {
      friendlyName: nodeId,
      machineModel: "Unknown",
      chipId: "Unknown",
      osVersion: "Unknown",
      osBuildVersion: "Unknown",
      exoVersion: "0",
      backends: ["MlxCpu"],
    },
  }));
  const links = nodeIds.flatMap((nodeId, n) => linked(nodeId, nodeIds[n + 1]));
  const wishes = metas.map((metaInstance): Event => ({
    type: "MetaInstanceCreated",
    metaInstance,
  }));
  const served = scene === "waiting" ? [] : metas.flatMap((meta, n) => servedBy(meta, nodeIds, n));
  return [...nodes, ...links, ...wishes, ...served].reduce(committed, EMPTY_STATE);
}

/** The ways between two neighbours of a chain; none behind its end. */
function linked(a: NodeId, b: NodeId | undefined): Event[] {
  if (b === undefined) return [];
  return [[a, b], [b, a]].map(([source, sink]) =>
    Event.parse({
      type: "TopologyEdgeCreated",
      connection: {
        source,
        sink,
        edge: { type: "SocketConnection", sinkMultiaddr: "/ip4/10.0.0.1/tcp/52414" },
      },
    })
  );
}

function metaOf(scene: ReconcileScene, n: number): MetaInstance {
  const modelId = ModelId.parse("org/model");
  const gib = scene === "waiting" ? 1_000_000 : 1;
  const modelCard = ModelCard.parse({
    modelId,
    storageSize: { inBytes: gib * GIB },
    nLayers: 32,
    hiddenSize: 64,
    supportsTensor: false,
    tasks: ["TextGeneration"],
    backends: ["MlxCpu"],
  });
  return MetaInstance.parse({ metaInstanceId: `meta-${n}`, modelId, modelCard });
}

/** An instance of two ranks on neighbouring nodes, all of which serve. */
function servedBy(meta: MetaInstance, nodeIds: readonly NodeId[], n: number): Event[] {
  const instanceId = InstanceId.parse(`instance-${n}`);
  const runners = [0, 1].map((rank) => RunnerId.parse(`${instanceId}:${rank}`));
  const shard = {
    type: "PipelineShardMetadata",
    modelCard: meta.modelCard,
    worldSize: 2,
    startLayer: 0,
    endLayer: 32,
    nLayers: 32,
  };
  const ranks = runners.map((runnerId, deviceRank) => [runnerId, { ...shard, deviceRank }]);
  const nodes = runners.map((runnerId, rank) => [nodeIds[(n + rank) % nodeIds.length], runnerId]);
  const instance = Instance.parse({
    type: "MlxRingInstance",
    instanceId,
    metaInstanceId: MetaInstanceId.parse(meta.metaInstanceId),
    shardAssignments: {
      modelId: meta.modelId,
      runnerToShard: Object.fromEntries(ranks),
      nodeToRunner: Object.fromEntries(nodes),
    },
    hostsByNode: {},
  });
  const ready = runners.map((runnerId): Event => ({
    type: "RunnerStatusUpdated",
    runnerId,
    status: { type: "RunnerReady" },
    incarnation: 1,
    at: 0,
  }));
  return [{ type: "InstanceCreated", instance }, ...ready];
}

function committed(state: State, event: Event): State {
  const epoch = { clock: 1, nodeId: NodeId.parse("node-0") };
  return apply(state, { idx: state.lastEventAppliedIdx + 1, epoch, event });
}

/** How long ticks take in milliseconds: the longest, and the median once all is decided. */
export function tickMs(tick: Tick): { readonly longest: number; readonly settled: number } {
  const timed = () => {
    const start = performance.now();
    const isSettled = tick().events.length === 0;
    return { isSettled, ms: performance.now() - start };
  };
  let longest = 0;
  for (let { isSettled, ms } = timed(); !isSettled; { isSettled, ms } = timed()) {
    longest = Math.max(longest, ms);
  }
  const times = Array.from({ length: TICKS }, () => timed().ms).sort((a, b) => a - b);
  return { longest, settled: times[TICKS >> 1] ?? 0 };
}

if (import.meta.main) {
  for (const scene of ["satisfied", "waiting"] as const) {
    for (const nodeCount of NODE_COUNTS) {
      const { longest, settled } = tickMs(reconcileTick(scene, nodeCount));
      const what = `${scene}, ${nodeCount} nodes, ${META_INSTANCES} wishes`;
      const line = `${what}: ${settled.toFixed(3)} ms, longest ${longest.toFixed(1)} ms\n`;
      Deno.stdout.writeSync(new TextEncoder().encode(line));
    }
  }
}
