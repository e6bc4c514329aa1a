import type { NumberReader } from "./number_reader.ts";

/** Most operations on caches that one frame tells of. */
export const OPS_MAX = 4_096;

/** What was done to caches since the step before, in order; numbers are given by the first rank. */
export type CacheOperation =
  | {
    readonly type: "make";
    readonly cache: number;
    /** Shares by their numbers; null where the window has left a block behind. */
    readonly prefix?: {
      readonly shares: readonly (number | null)[];
      readonly positions: number;
    };
  }
  | { readonly type: "free"; readonly cache: number }
  | {
    readonly type: "share";
    readonly share: number;
    readonly cache: number;
    readonly index: number;
  }
  | { readonly type: "giveBack"; readonly share: number }
  /** Blocks to be written, for a cache that ends with a whole one. */
  | { readonly type: "reserve"; readonly cache: number; readonly count: number }
  /** Blocks that were written on all ranks. */
  | { readonly type: "advance"; readonly cache: number; readonly count: number };

/**
 * Keys and values that a frame takes along instead of a step: whole blocks, for one layer. Its body
 * has the parts of the ranks in their order, of those that were passed (read) or are ahead (write).
 */
export type KvMove =
  | { readonly type: "read"; readonly layer: number; readonly shares: readonly number[] }
  | {
    readonly type: "write";
    readonly layer: number;
    readonly cache: number;
    /** Of the blocks that were reserved, the first so many. */
    readonly count: number;
  };

const OPERATIONS = ["make", "free", "share", "giveBack", "reserve", "advance"] as const;
const NO_MOVE = 0, READ = 1, WRITE = 2;

/** Where there is nothing. */
export const NONE = -1;

/** As the numbers of a header. */
export function writeOperation(operation: CacheOperation, to: number[]): void {
  to.push(OPERATIONS.indexOf(operation.type));
  switch (operation.type) {
    case "make": {
      const { cache, prefix } = operation;
      to.push(cache, prefix ? prefix.shares.length : NONE);
      if (prefix) to.push(prefix.positions, ...prefix.shares.map((share) => share ?? NONE));
      return;
    }
    case "free":
      return void to.push(operation.cache);
    case "share":
      return void to.push(operation.share, operation.cache, operation.index);
    case "giveBack":
      return void to.push(operation.share);
    case "reserve":
    case "advance":
      return void to.push(operation.cache, operation.count);
    default:
      return operation satisfies never;
  }
}

/** What {@linkcode writeOperation} wrote. */
export function readOperation(from: NumberReader): CacheOperation {
  const type = OPERATIONS[from.count(OPERATIONS.length - 1)];
  if (type === "free") return { type, cache: from.count() };
  if (type === "giveBack") return { type, share: from.count() };
  if (type === "reserve" || type === "advance") {
    return { type, cache: from.count(), count: from.count() };
  }
  if (type === "share") {
    return { type, share: from.count(), cache: from.count(), index: from.count() };
  }
  const cache = from.count();
  const length = from.countOr(NONE);
  if (length === NONE) return { type: "make", cache };
  const positions = from.count();
  const shares = from.times(length, () => {
    const share = from.countOr(NONE);
    return share === NONE ? null : share;
  });
  return { type: "make", cache, prefix: { shares, positions } };
}

/** As the numbers of a header. */
export function writeMove(move: KvMove | undefined, to: number[]): void {
  if (!move) to.push(NO_MOVE);
  else if (move.type === "read") to.push(READ, move.layer, move.shares.length, ...move.shares);
  else to.push(WRITE, move.layer, move.cache, move.count);
}

/** What {@linkcode writeMove} wrote. */
export function readMove(from: NumberReader): KvMove | undefined {
  const type = from.count(WRITE);
  if (type === NO_MOVE) return undefined;
  const layer = from.count();
  if (type === READ) {
    return { type: "read", layer, shares: from.times(from.count(), () => from.count()) };
  }
  return { type: "write", layer, cache: from.count(), count: from.count() };
}
