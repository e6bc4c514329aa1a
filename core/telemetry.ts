import type { Edge } from "./connection.ts";
import { edgeKey } from "./connection.ts";
import type { ModelId, NodeId, RunnerId } from "./ids.ts";
import type { Millis } from "./units.ts";

/** Memory of a GPU that has its own. */
export interface GpuMemory {
  readonly totalBytes: number;
  readonly availableBytes: number;
}

/** Memory of a node right now. */
export interface NodeMemory {
  readonly ramTotalBytes: number;
  readonly ramAvailableBytes: number;
  readonly swapTotalBytes?: number | undefined;
  readonly swapAvailableBytes?: number | undefined;
  /** Of the GPU that runners compute on; absent: none, or it shares the machine's. */
  readonly gpu?: GpuMemory | undefined;
  /**
   * The runners whose weights were in memory when it was measured; absent: none. The statuses in
   * the log do not tell: they are newer or older than the measurement.
   */
  readonly loadedRunners?: readonly RunnerId[] | undefined;
}

/** The volume that models are kept on. */
export interface NodeDisk {
  readonly totalBytes: number;
  /** What this process may write. */
  readonly availableBytes: number;
}

/** How busy, how warm and how hungry a machine is, as far as it tells. Usages are from 0 to 1. */
export interface NodeSystem {
  /** Of all cores together. */
  readonly cpuUsage?: number | undefined;
  /** Only of machines with two kinds of cores. */
  readonly performanceCoreUsage?: number | undefined;
  readonly efficiencyCoreUsage?: number | undefined;
  readonly gpuUsage?: number | undefined;
  readonly cpuTemperatureCelsius?: number | undefined;
  readonly gpuTemperatureCelsius?: number | undefined;
  /** Of the whole machine, or of its processors where no more is known. */
  readonly powerWatts?: number | undefined;
}

/** How good one edge is, as last measured. */
export interface LinkQuality {
  readonly bandwidthBitsPerSecond?: number | undefined;
  /** One round trip. */
  readonly latencyMs?: number | undefined;
}

/** How much of a model has come to a node so far. */
export interface DownloadedBytes {
  readonly downloadedBytes: number;
  readonly totalBytes: number;
}

/**
 * What changes every second: latest values beside the log (design D3). Arguments of whoever
 * decides; nothing of it is in the state.
 */
export interface Telemetry {
  readonly memory: ReadonlyMap<NodeId, NodeMemory>;
  readonly disk: ReadonlyMap<NodeId, NodeDisk>;
  readonly system: ReadonlyMap<NodeId, NodeSystem>;
  /** By `linkKey`; absent: not measured. */
  readonly links: ReadonlyMap<string, LinkQuality>;
  /** Of downloads that are under way; absent: nobody tells. */
  readonly downloads?: ReadonlyMap<NodeId, ReadonlyMap<ModelId, DownloadedBytes>> | undefined;
  /** When the node was last heard of, on the clock of whoever listens. */
  readonly lastSeen: ReadonlyMap<NodeId, Millis>;
}

/** Nothing has been heard of any node. */
export const NO_TELEMETRY: Telemetry = {
  memory: new Map(),
  disk: new Map(),
  system: new Map(),
  links: new Map(),
  lastSeen: new Map(),
};

/** The name of an edge between two nodes in `Telemetry.links`. */
export function linkKey(source: NodeId, sink: NodeId, edge: Edge): string {
  return `${source}>${sink}>${edgeKey(edge)}`;
}
