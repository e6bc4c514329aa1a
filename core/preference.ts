import type { Preference } from "./placement_request.ts";

/** What is known of a node that a model may go to. */
export interface Site {
  /** Free bytes. */
  readonly free: number;
  /** The most layers that it can take; 0 where it can take none. */
  readonly capacity: number;
  /** How much of the model it has: 0 to 1. */
  readonly download: number;
  /** Bytes per second that it reads from its memory. */
  readonly bandwidth: number;
  /** Whether it reaches one other node at most. */
  readonly isLeaf: boolean;
}

/** What the nodes of a candidate and the hops between them add up to. */
export interface Sum {
  readonly size: number;
  readonly capacity: number;
  readonly download: number;
  readonly free: number;
  readonly bandwidth: number;
  readonly bandwidthMin: number;
  readonly leaves: number;
  readonly hopSeconds: number;
  readonly hopSecondsMax: number;
}

/** No nodes. */
export const NOTHING: Sum = {
  size: 0,
  capacity: 0,
  download: 0,
  free: 0,
  bandwidth: 0,
  bandwidthMin: Infinity,
  leaves: 0,
  hopSeconds: 0,
  hopSecondsMax: 0,
};

/** A sum with one more node, and perhaps the hop to it. */
export function withSite(sum: Sum, site: Site, hopSeconds = 0): Sum {
  return {
    size: sum.size + 1,
    capacity: sum.capacity + site.capacity,
    download: sum.download + site.download,
    free: sum.free + site.free,
    bandwidth: sum.bandwidth + site.bandwidth,
    bandwidthMin: Math.min(sum.bandwidthMin, site.bandwidth),
    leaves: sum.leaves + (site.isLeaf ? 1 : 0),
    hopSeconds: sum.hopSeconds + hopSeconds,
    hopSecondsMax: Math.max(sum.hopSecondsMax, hopSeconds),
  };
}

/** What candidates are compared by. */
export interface Aim {
  /** `roomiest` is for models that fit nowhere: what lacks the least. */
  readonly prefer: Preference | "roomiest";
  readonly workload: Workload;
}

/** What one token costs, apart from the nodes. */
export interface Workload {
  /** Weights that are read for a token. */
  readonly bytes: number;
  /** Exchanges of all ranks for a token: 0 for a pipeline, where the ranks take turns. */
  readonly exchanges: number;
  /** Whether an exchange goes around the ring, or straight to each. */
  readonly isRing: boolean;
}

/**
 * Seconds for a token, as far as memory bandwidth and links tell. A pipeline has its layers by
 * bandwidth; with many requests (`throughput`) its stages work side by side, and the slowest link
 * or stage sets the pace.
 */
export function secondsPerToken({ prefer, workload }: Aim, sum: Sum): number {
  const { bytes, exchanges, isRing } = workload;
  if (exchanges > 0) {
    const hops = sum.size === 1 ? 0 : isRing ? 2 * (sum.size - 1) : 1;
    return bytes / sum.size / sum.bandwidthMin + exchanges * hops * sum.hopSecondsMax;
  }
  const stageSeconds = bytes / sum.bandwidth;
  if (prefer === "throughput") return Math.max(stageSeconds, sum.hopSecondsMax);
  return sum.size * stageSeconds + sum.hopSeconds;
}

/** A difference below this part of a figure is one of rounding. */
const ROUNDING = 1e-9;

/** Negative when `a` is less than `b` by more than rounding, 0 when they are as good as equal. */
function difference(a: number, b: number): number {
  return Math.abs(a - b) <= ROUNDING * Math.max(Math.abs(a), Math.abs(b)) ? 0 : a - b;
}

/**
 * Negative when `a` is the better candidate, positive when `b` is, 0 where nothing tells; `b` may
 * be for another workload of the same model.
 */
export function compareSums(aim: Aim, a: Sum, b: Sum, aimOfB = aim): number {
  const more = (of: (sum: Sum) => number) => difference(of(b), of(a));
  const seconds = () => difference(secondsPerToken(aim, a), secondsPerToken(aimOfB, b));
  const size = a.size - b.size;
  const leaf = () => Number(b.leaves > 0) - Number(a.leaves > 0);
  const download = () => more((sum) => sum.download);
  const free = () => more((sum) => sum.free);
  switch (aim.prefer) {
    case "smallest":
      return size || leaf() || download() || seconds() || free();
    case "widest":
      return -size || leaf() || download() || seconds() || free();
    case "latency":
    case "throughput":
      return seconds() || size || leaf() || download() || free();
    case "roomiest":
      return free() || size || leaf() || download() || seconds();
  }
}

/** What a node brings of what counts first, second and third: more is better. */
export function keysOf({ prefer }: Aim, site: Site): readonly [number, number, number] {
  const { download, bandwidth, free } = site;
  switch (prefer) {
    case "smallest":
    case "widest":
      return [download, bandwidth, free];
    case "latency":
    case "throughput":
      return [bandwidth, download, free];
    case "roomiest":
      return [free, download, bandwidth];
  }
}
