import { layersThatFit } from "./apportion.ts";
import { type Network, networkOf } from "./addresses.ts";
import type { NodeId } from "./ids.ts";
import type { InstanceMeta } from "./instance.ts";
import { freeBytes, neededBytes } from "./memory_fit.ts";
import { type Graphs, graphsOf } from "./link_graph.ts";
import type { Backend, ModelCard } from "./model_card.ts";
import type { NodeState } from "./node_info.ts";
import type { PlacementRequest } from "./placement_request.ts";
import type { State } from "./state.ts";
import type { Telemetry } from "./telemetry.ts";

/** Backends whose ranks can talk to each other in each way (spec §3.2). */
const BACKENDS: Readonly<Record<InstanceMeta, readonly Backend[]>> = {
  MlxRing: ["MlxMetal", "MlxCuda", "MlxCpu"],
  MlxJaccl: ["MlxMetal"],
};

/**
 * Bytes per second that a device of each class reads from its memory, where nobody has measured:
 * of a middling one.
 */
const BANDWIDTH_DEFAULT: Readonly<Record<Backend, number>> = {
  MlxMetal: 300e9,
  MlxCpu: 40e9,
  MlxCuda: 800e9,
  Vllm: 800e9,
};

/** Digits of a bandwidth that count: measurements of equal machines differ by a few percent. */
const BANDWIDTH_DIGITS = 2;

/** A node as placement sees it. */
export interface NodeView {
  readonly nodeId: NodeId;
  /** What messages call it. */
  readonly name: string;
  readonly backends: readonly Backend[];
  /** Whether a backend of its can run the model. */
  readonly isUsable: boolean;
  readonly hasRdma: boolean;
  /** Bytes that the instance may take; undefined until the node has reported its memory. */
  readonly free: number | undefined;
  readonly capacity: number;
  readonly download: number;
  /** Whether it has the model's files, or can fetch them. */
  readonly hasFiles: boolean;
  readonly bandwidth: number;
  readonly isLeaf: boolean;
}

/** What is to be placed, and all that is known of where it could go. */
export interface PlacementView {
  readonly card: ModelCard;
  readonly request: PlacementRequest;
  /** Bytes that all ranks take together. */
  readonly needed: number;
  /** Backends of which a node needs one. */
  readonly usable: readonly Backend[];
  readonly network: Network;
  readonly graphs: Graphs;
  /** By id, excluded ones left out; of those that were pinned exactly no others. */
  readonly nodes: readonly NodeView[];
  /** The only number of nodes that is asked for; absent: any that does. */
  readonly size?: number;
}

/** What placement is told. */
export interface Wanted {
  readonly card: ModelCard;
  readonly request: PlacementRequest;
  /** Free bytes of the nodes in place of what they report and promise. */
  readonly free?: ReadonlyMap<NodeId, number>;
  /** The same nodes seen before, for other memory or another context. */
  readonly before?: Pick<PlacementView, "network" | "graphs">;
}

/** Looks at a cluster with a model in mind. */
export function viewOf(state: State, telemetry: Telemetry, wanted: Wanted): PlacementView {
  const { card, request } = wanted;
  const free = wanted.free ?? freeBytes(state, telemetry.memory);
  const needed = neededBytes(card, request.config);
  const usable = BACKENDS[request.instanceMeta].filter((one) => card.backends.includes(one));
  const names = nodeNames(state);
  const pinned = pinnedExactly(request);
  const nodes = [...state.nodes]
    .filter(([nodeId]) => !request.excludedNodeIds?.includes(nodeId))
    .filter(([nodeId]) => pinned?.includes(nodeId) ?? true)
    .sort(([a], [b]) => a < b ? -1 : 1)
    .map(([nodeId, node]): NodeView => {
      const bytes = limited(free.get(nodeId), request.memoryLimits?.[nodeId]);
      return {
        nodeId,
        name: names.get(nodeId) as string,
        backends: node.info.backends,
        isUsable: node.info.backends.some((one) => usable.includes(one)),
        hasRdma: node.rdmaCtlEnabled === true,
        free: bytes,
        capacity: layersThatFit(bytes ?? -1, { nLayers: card.nLayers, bytes: needed }),
        download: downloadScore(state, telemetry, { nodeId, card }),
        hasFiles: isHolder(state, nodeId, card) || canFetch(node, card),
        bandwidth: bandwidthOf(node, usable),
        isLeaf: (state.connections.get(nodeId)?.size ?? 0) <= 1,
      };
    });
  const network = wanted.before?.network ?? networkOf(state, telemetry);
  const nodeIds = nodes.map(({ nodeId }) => nodeId);
  const graphs = wanted.before?.graphs ?? graphsOf(network, nodeIds, request.instanceMeta);
  return { card, request, needed, usable, network, graphs, nodes };
}

/** What messages call each node: its friendly name where no other has it. */
export function nodeNames({ nodes }: Pick<State, "nodes">): ReadonlyMap<NodeId, string> {
  const counts = new Map<string, number>();
  for (const { info: { friendlyName } } of nodes.values()) {
    counts.set(friendlyName, (counts.get(friendlyName) ?? 0) + 1);
  }
  return new Map([...nodes].map(([nodeId, { info: { friendlyName } }]) => {
    const isOne = friendlyName !== "" && counts.get(friendlyName) === 1;
    return [nodeId, isOne ? friendlyName : nodeId];
  }));
}

/** The nodes that an instance must consist of, where it must be these and no others. */
export function pinnedExactly(request: PlacementRequest): readonly NodeId[] | undefined {
  if (request.nodeLayers) return Object.keys(request.nodeLayers) as NodeId[];
  return request.exact ? request.nodeIds ?? [] : undefined;
}

/** The nodes that an instance must contain, each once. */
export function pinnedNodes(request: PlacementRequest): readonly NodeId[] {
  return [...new Set([...request.nodeIds ?? [], ...pinnedExactly(request) ?? []])];
}

function limited(free: number | undefined, limit = Infinity): number | undefined {
  return free === undefined ? undefined : Math.min(free, limit);
}

/** Whether all files of a model are on a node. */
export function isHolder(
  { downloads }: Pick<State, "downloads">,
  nodeId: NodeId,
  { modelId }: Pick<ModelCard, "modelId">,
): boolean {
  return downloads.get(nodeId)?.get(modelId)?.type === "DownloadCompleted";
}

/** Files that somebody has added by their path are nowhere to be fetched from. */
function canFetch({ info: { fetchesModels } }: NodeState, { modelId }: ModelCard): boolean {
  return fetchesModels === undefined || (fetchesModels && !modelId.startsWith("local/"));
}

/** How much of the model a node has: 1 for all of it (spec §3.2). */
function downloadScore(
  state: State,
  { downloads }: Telemetry,
  { nodeId, card: { modelId } }: { nodeId: NodeId; card: ModelCard },
): number {
  if (isHolder(state, nodeId, { modelId })) return 1;
  const status = state.downloads.get(nodeId)?.get(modelId)?.type;
  if (status !== "DownloadOngoing" && status !== "DownloadPending") return 0;
  const { downloadedBytes = 0, totalBytes = 0 } = downloads?.get(nodeId)?.get(modelId) ?? {};
  return totalBytes === 0 ? 0 : Math.min(1, downloadedBytes / totalBytes);
}

function bandwidthOf({ info }: NodeState, usable: readonly Backend[]): number {
  const measured = info.memoryBandwidthBytesPerSecond ?? 0;
  const defaults = info.backends.filter((one) => usable.includes(one))
    .map((one) => BANDWIDTH_DEFAULT[one]);
  const bandwidth = measured > 0 ? measured : Math.max(BANDWIDTH_DEFAULT.MlxCpu, ...defaults);
  return Number(bandwidth.toPrecision(BANDWIDTH_DIGITS));
}
