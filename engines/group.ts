import type { GroupTraffic } from "../core/engine_stats.ts";
import type { Tensor } from "../ffi/mod.ts";

/**
 * The ranks of an instance, as one of them sees them. Frames travel one way, from each rank to the
 * next, and from the last to the first: so they pass all, in one order. Sums are apart from them: a
 * frame may be on its way, or awaited, while ranks sum.
 */
export interface Group extends Disposable {
  readonly rank: number;
  readonly size: number;
  /** What the nodes are called, by rank. */
  readonly names: readonly string[];
  /**
   * Sends a frame to the next rank: header and body, joined. It is copied, or on its way, when this
   * returns; a slow link delays what comes later, never the caller.
   * @throws {AppError} `group_broken`, which names the rank that is gone.
   */
  send(header: Uint8Array, body?: Uint8Array): void;
  /**
   * The next frame of the rank before; waits for it `ms` at most. Undefined: none came.
   * @throws {AppError} `group_broken`, which names the rank that is gone or silent.
   */
  receive(ms: number): Uint8Array<ArrayBuffer> | undefined;
  /**
   * The sum of all ranks' x, of any type; it is made when it is computed, and then by all of them:
   * each rank computes the same sums in the same order.
   */
  sum(x: Tensor): Tensor;
  /** What it has sent, sums of steps included; absent where nobody counts. */
  traffic?(): GroupTraffic;
  /** Resolves once a frame has come, or the group is broken: for a rank that has nothing to do. */
  arrival(): Promise<void>;
}

/** Ranks further along the ring, the last one's next being the first. */
export function nextRank({ rank, size }: Pick<Group, "rank" | "size">): number {
  return (rank + 1) % size;
}
