import type { KvBlock } from "../decoder.ts";

/** What a prompt has in common with earlier ones. */
export interface PrefixHit {
  /** From position 0, in order; the last may be used in part. They belong to the prefix cache. */
  readonly blocks: readonly KvBlock[];
  readonly positions: number;
}

/** A block of an earlier request, behind the blocks of its parents. */
interface Node {
  readonly parent: Node | undefined;
  keys: readonly number[];
  block: KvBlock;
  /** Only full blocks have children. */
  readonly children: Siblings;
  /** Its own bytes while nobody else holds it, as far as was looked. */
  ownBytes: number;
}

/**
 * Blocks that follow the same keys, in the order of their own. None is the beginning of another, so
 * that the one which has most in common with a sequence stands next to where that would.
 */
type Siblings = Node[];

/**
 * Keys and values of earlier requests, for later ones that begin alike. A tree of blocks, so that
 * what they share is there once, and looking up costs the length of the match, and little for what is beside it. Source of the tree:
 * arXiv:2312.07104; of the blocks: arXiv:2309.06180. A position's key is its token's id, or, within
 * an image, a number that no other image has.
 */
export class PrefixCache {
  readonly #blockPositions: number;
  readonly #roots: Siblings = [];
  /** Least recently used first; parents come after their children, so that leaves go first. */
  readonly #recent = new Set<Node>();
  /** Nodes that others may hold: when they were inserted, or found, they got others' shares. */
  readonly #lent = new Set<Node>();
  /** Bytes of all other nodes. */
  #ownBytes = 0;

  constructor(blockPositions: number) {
    this.#blockPositions = blockPositions;
  }

  /** Number of blocks. */
  get size(): number {
    return this.#recent.size;
  }

  /** Bytes that would be freed if all of it went. */
  get ownBytes(): number {
    for (const node of this.#lent) {
      node.ownBytes = node.block.ownBytes;
      if (node.ownBytes === 0) continue;
      this.#ownBytes += node.ownBytes;
      this.#lent.delete(node);
    }
    return this.#ownBytes;
  }

  /** The longest beginning of `keys` that is there and can be gone on from, `positionsMax` at most. */
  lookup(keys: readonly number[], positionsMax: number): PrefixHit {
    const end = Math.min(keys.length, positionsMax);
    const path: { node: Node; positions: number }[] = [];
    let siblings = this.#roots;
    for (let at = 0; at < end;) {
      const found = closest(siblings, keys, at, end);
      if (!found) break;
      path.push(found);
      at += found.positions;
      if (found.positions < this.#blockPositions) break;
      siblings = found.node.children;
    }
    while (path.length > 0 && !resumes(path.at(-1))) path.pop();
    for (const { node } of path) this.#lend(node);
    this.#touch(path.at(-1)?.node);
    return {
      blocks: path.map(({ node }) => node.block),
      positions: path.reduce((sum, { positions }) => sum + positions, 0),
    };
  }

  /**
   * Keeps the blocks of a sequence with these keys, as far as they are not there yet. `share` gives
   * block number i; undefined where the sequence has it no more.
   */
  insert(keys: readonly number[], share: (index: number) => KvBlock | undefined): void {
    let parent: Node | undefined;
    const size = this.#blockPositions;
    for (let index = 0; index * size < keys.length; index++) {
      const from = index * size;
      const to = Math.min(keys.length, from + size);
      const siblings: Siblings = parent?.children ?? this.#roots;
      const found = closest(siblings, keys, from, to);
      if (found?.positions === to - from) {
        parent = found.node;
        continue;
      }
      const block = share(index);
      if (!block) break;
      const own = keys.slice(from, to);
      // A block that goes on where another stopped takes its place.
      if (found && found.positions === found.node.keys.length) {
        this.#lend(found.node);
        found.node.block[Symbol.dispose]();
        Object.assign(found.node, { keys: own, block });
        parent = found.node;
        continue;
      }
      parent = { parent, keys: own, block, children: [], ownBytes: 0 };
      siblings.splice(placeOf(siblings, own), 0, parent);
      this.#lend(parent);
    }
    this.#touch(parent);
  }

  /** Lets the block go that was not used for the longest time; false when there is none. */
  evict(): boolean {
    const [oldest] = this.#recent;
    if (!oldest) return false;
    const siblings = oldest.parent?.children ?? this.#roots;
    siblings.splice(placeOf(siblings, oldest.keys), 1);
    this.#recent.delete(oldest);
    this.#lend(oldest);
    this.#lent.delete(oldest);
    oldest.block[Symbol.dispose]();
    return true;
  }

  /** Lets everything go. */
  clear(): void {
    while (this.evict());
  }

  /** Others may hold it from now on. */
  #lend(node: Node): void {
    this.#ownBytes -= node.ownBytes;
    node.ownBytes = 0;
    this.#lent.add(node);
  }

  /** A node and its parents have been used, the root last. */
  #touch(leaf: Node | undefined): void {
    for (let node = leaf; node; node = node.parent) {
      this.#recent.delete(node);
      this.#recent.add(node);
    }
  }
}

/** The index of the first sibling whose keys do not come before those in [from, to). */
function placeOf(
  siblings: Siblings,
  keys: readonly number[],
  from = 0,
  to = keys.length,
): number {
  let [low, high] = [0, siblings.length];
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    const own = siblings[middle]?.keys ?? [];
    const common = commonPrefixLength(own, keys, from, to);
    // At the end of either, -Infinity comes before all keys.
    const wanted = from + common < to ? keys[from + common] ?? -Infinity : -Infinity;
    if ((own[common] ?? -Infinity) < wanted) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The node that shares most with the keys in [from, to); undefined: none shares any. */
function closest(
  siblings: Siblings,
  keys: readonly number[],
  from: number,
  to: number,
): { node: Node; positions: number } | undefined {
  const place = placeOf(siblings, keys, from, to);
  let best: { node: Node; positions: number } | undefined;
  for (const node of siblings.slice(Math.max(0, place - 1), place + 1)) {
    const positions = commonPrefixLength(node.keys, keys, from, to);
    if (positions > (best?.positions ?? 0)) best = { node, positions };
  }
  return best;
}

/** How many of `block` stand in `keys` from position `from` on, before `to`. */
export function commonPrefixLength(
  block: readonly number[],
  keys: readonly number[],
  from = 0,
  to = keys.length,
): number {
  const most = Math.min(block.length, to - from);
  let count = 0;
  while (count < most && block[count] === keys[from + count]) count++;
  return count;
}

/** Whether a sequence can go on after so many positions of the block. */
function resumes(last: { node: Node; positions: number } | undefined): boolean {
  if (!last) return false;
  const { keys, block: { resumes = "anywhere" } } = last.node;
  return resumes === "anywhere" || resumes === "end" && last.positions === keys.length;
}
