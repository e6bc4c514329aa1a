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
  /** By the first key. Only full blocks have children. */
  readonly children: Map<number, Node[]>;
}

/**
 * Keys and values of earlier requests, for later ones that begin alike. A tree of blocks, so that
 * what they share is there once, and looking up costs the length of the match. Source of the tree:
 * arXiv:2312.07104; of the blocks: arXiv:2309.06180. A position's key is its token's id, or, within
 * an image, a number that no other image has.
 */
export class PrefixCache {
  readonly #blockPositions: number;
  readonly #roots = new Map<number, Node[]>();
  /** Least recently used first; parents come after their children, so that leaves go first. */
  readonly #recent = new Set<Node>();

  constructor(blockPositions: number) {
    this.#blockPositions = blockPositions;
  }

  /** Number of blocks. */
  get size(): number {
    return this.#recent.size;
  }

  /** Bytes that would be freed if all of it went. */
  get ownBytes(): number {
    let sum = 0;
    for (const { block } of this.#recent) sum += block.ownBytes;
    return sum;
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
      const siblings: Map<number, Node[]> = parent?.children ?? this.#roots;
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
        found.node.block[Symbol.dispose]();
        Object.assign(found.node, { keys: own, block });
        parent = found.node;
        continue;
      }
      parent = addTo(siblings, { parent, keys: own, block, children: new Map() });
    }
    this.#touch(parent);
  }

  /** Lets the block go that was not used for the longest time; false when there is none. */
  evict(): boolean {
    const [oldest] = this.#recent;
    if (!oldest) return false;
    const siblings = oldest.parent?.children ?? this.#roots;
    const [first = 0] = oldest.keys;
    const others = siblings.get(first)?.filter((node) => node !== oldest) ?? [];
    if (others.length > 0) siblings.set(first, others);
    else siblings.delete(first);
    this.#recent.delete(oldest);
    oldest.block[Symbol.dispose]();
    return true;
  }

  /** Lets everything go. */
  clear(): void {
    while (this.evict());
  }

  /** A node and its parents have been used, the root last. */
  #touch(leaf: Node | undefined): void {
    for (let node = leaf; node; node = node.parent) {
      this.#recent.delete(node);
      this.#recent.add(node);
    }
  }
}

function addTo(siblings: Map<number, Node[]>, node: Node): Node {
  const [first = 0] = node.keys;
  siblings.set(first, [...siblings.get(first) ?? [], node]);
  return node;
}

/** The node that shares most with the keys in [from, to). */
function closest(
  siblings: ReadonlyMap<number, readonly Node[]>,
  keys: readonly number[],
  from: number,
  to: number,
): { node: Node; positions: number } | undefined {
  let best: { node: Node; positions: number } | undefined;
  for (const node of siblings.get(keys[from] ?? -1) ?? []) {
    const positions = commonPrefixLength(node.keys, keys, from, to);
    if (!best || positions > best.positions) best = { node, positions };
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
