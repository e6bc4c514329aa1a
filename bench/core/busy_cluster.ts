/** A cluster with much to remember, for benchmarks of the state. */
import { apply } from "../../core/apply.ts";
import { Event } from "../../core/events.ts";
import { type InstanceId, NodeId, TaskId } from "../../core/ids.ts";
import { Instance } from "../../core/instance.ts";
import { ModelCard } from "../../core/model_card.ts";
import { EMPTY_STATE, type State } from "../../core/state.ts";
import { GIB } from "../../core/units.ts";

/** How big a cluster is. */
export interface ClusterSize {
  readonly nodes: number;
  /** Ways from each node to those after it. */
  readonly edgesPerNode: number;
  readonly instances: number;
  readonly ranksPerInstance: number;
  readonly tasks: number;
  /** Ids as long as those of real clusters, where it is bytes that are counted. */
  readonly hasLongIds?: boolean | undefined;
}

/** Characters of a peer id and of a UUID. */
const NODE_ID_CHARS = 52;
/** See `NODE_ID_CHARS`. */
export const UUID_CHARS = 36;

/** The epoch of all events of a benchmark. */
export const BENCH_EPOCH = { clock: 1, nodeId: NodeId.parse("node-0") };

const CARD = ModelCard.parse({
  modelId: "org/model",
  storageSize: { inBytes: GIB },
  nLayers: 32,
  hiddenSize: 4_096,
  supportsTensor: true,
  tasks: ["TextGeneration"],
  backends: ["MlxCpu"],
});

/** A cluster of this size in which all instances serve. */
export function busyCluster(size: ClusterSize): State {
  const ids = Array.from(
    { length: size.nodes },
    (_, n) => NodeId.parse(`node-${n}`.padEnd(size.hasLongIds ? NODE_ID_CHARS : 0, ".")),
  );
  const instances = Array.from({ length: size.instances }, (_, n) => instanceOf(ids, size, n));
  const events = [
    ...ids.map(started),
    ...ids.flatMap((_, n) => edgesOf(ids, size, n)),
    ...instances.flatMap((instance) => [created(instance), ...ready(instance)]),
    ...Array.from({ length: size.tasks }, (_, n) => {
      const { instanceId } = instances[n % instances.length] as Instance;
      return taskCreated(n, instanceId, ids[n % ids.length] as NodeId);
    }),
  ];
  return events.reduce(committed, EMPTY_STATE);
}

/** The state after one more event. */
export function committed(state: State, event: Event): State {
  return apply(state, { idx: state.lastEventAppliedIdx + 1, epoch: BENCH_EPOCH, event });
}

/** A generation as the log knows it. */
export function taskCreated(n: number, instanceId: InstanceId, apiNodeId: NodeId): Event {
  const id = TaskId.parse(`task-${n}`);
  return Event.parse({
    type: "TaskCreated",
    task: {
      type: "TextGeneration",
      taskId: id,
      commandId: id,
      instanceId,
      modelId: CARD.modelId,
      apiNodeId,
      taskStatus: "Running",
    },
  });
}

function started(nodeId: NodeId): Event {
  return Event.parse({
    type: "NodeStarted",
    nodeId,
    incarnation: 1,
    info: {
      friendlyName: nodeId,
      chipId: "Unknown",
      osVersion: "linux",
      exoVersion: "0",
      backends: ["MlxCpu"],
    },
  });
}

function edgesOf(ids: readonly NodeId[], { edgesPerNode }: ClusterSize, n: number): Event[] {
  return Array.from({ length: edgesPerNode }, (_, step) => {
    const sink = (n + step + 1) % ids.length;
    const sinkMultiaddr = `/ip4/10.0.${sink >> 8}.${sink & 255}/tcp/52414`;
    const edge = { type: "SocketConnection", sinkMultiaddr };
    const connection = { source: ids[n], sink: ids[sink], edge };
    return Event.parse({ type: "TopologyEdgeCreated", connection });
  });
}

function instanceOf(ids: readonly NodeId[], size: ClusterSize, n: number): Instance {
  const { ranksPerInstance: worldSize } = size;
  const instanceId = `instance-${n}`.padEnd(size.hasLongIds ? UUID_CHARS : 0, ".");
  const ranks = Array.from({ length: worldSize }, (_, rank) => rank);
  const nodeOf = (rank: number) => ids[(n * worldSize + rank) % ids.length] as NodeId;
  const cut = (rank: number) => Math.round(CARD.nLayers * rank / worldSize);
  const hosts = ranks.map((rank) => ({ ip: `10.0.0.${rank}`, port: 50_000 }));
  const shards = ranks.map((deviceRank) => [`${instanceId}:${deviceRank}`, {
    type: "PipelineShardMetadata",
    modelCard: CARD,
    deviceRank,
    worldSize,
    startLayer: cut(deviceRank),
    endLayer: cut(deviceRank + 1),
    nLayers: CARD.nLayers,
  }]);
  return Instance.parse({
    type: "MlxRingInstance",
    instanceId,
    shardAssignments: {
      modelId: CARD.modelId,
      runnerToShard: Object.fromEntries(shards),
      nodeToRunner: Object.fromEntries(
        ranks.map((rank) => [nodeOf(rank), `${instanceId}:${rank}`]),
      ),
    },
    hostsByNode: Object.fromEntries(ranks.map((rank) => [nodeOf(rank), hosts])),
    ephemeralPort: 50_000,
  });
}

function created(instance: Instance): Event {
  return { type: "InstanceCreated", instance };
}

function ready({ shardAssignments }: Instance): Event[] {
  return Object.keys(shardAssignments.runnerToShard).map((runnerId) =>
    Event.parse({
      type: "RunnerStatusUpdated",
      runnerId,
      status: { type: "RunnerReady" },
      incarnation: 1,
      at: 0,
    })
  );
}
