import { BPE } from "@huggingface/tokenizers";
import type { GgufStrings } from "../../core/gguf_strings.ts";
import { StringIndex } from "./string_index.ts";

/** A vocabulary and its merges as a GGUF has them. */
export interface BpeTables {
  /** By their ids. */
  readonly tokens: GgufStrings;
  /** Best first; each is two tokens with a space between, and no token has one. */
  readonly merges: GgufStrings;
}

/**
 * The library's BPE with its tables as they are in the file. The library would hold each token and
 * each merge as strings of its own: 50,000 of each take 150 ms and 20 MB.
 */
export class TableBpe extends BPE {
  readonly #merges: StringIndex;

  constructor(config: unknown, { tokens, merges }: BpeTables) {
    super(config as ConstructorParameters<typeof BPE>[0]);
    this.#merges = new StringIndex(merges);
    this.tokens_to_ids = new TokenIds(new StringIndex(tokens));
  }

  override bpe(word: string): string[] {
    const known = this.cache.get(word);
    if (known !== undefined) return known;
    const tokens = mergeTokens([...word], (left, right) => this.#merges.find(`${left} ${right}`));
    if (word.length < this.max_length_to_cache) this.cache.put(word, tokens);
    return tokens;
  }
}

/** Ids by token, out of an index. */
class TokenIds extends Map<string, number> {
  readonly #index: StringIndex;

  constructor(index: StringIndex) {
    super();
    this.#index = index;
  }

  override get(token: string): number | undefined {
    return this.#index.find(token);
  }

  override has(token: string): boolean {
    return this.get(token) !== undefined;
  }
}

/** Places of a word that a key of the queue tells apart; above them, it has 2^24 ranks. */
const PLACES = 2 ** 29;

/** Where no merge begins. */
const NO_RANK = -1;

/**
 * Merges neighbours, the pair of the least rank first and the leftmost of equal ones, until no two
 * neighbours have a rank.
 */
export function mergeTokens(
  letters: readonly string[],
  rankOf: (left: string, right: string) => number | undefined,
): string[] {
  const tokens = [...letters]; // Empty where a token was merged into the one before.
  const after = tokens.map((_, at) => at + 1);
  const before = tokens.map((_, at) => at - 1);
  const ranks = tokens.map(() => NO_RANK); // Of each token with the one after.
  const queue = new NumberQueue();
  const consider = (at: number) => {
    const [left, right] = [tokens[at], tokens[after[at] ?? -1]];
    const rank = left !== undefined && right !== undefined ? rankOf(left, right) : undefined;
    ranks[at] = rank ?? NO_RANK;
    if (rank !== undefined) queue.push(rank * PLACES + at);
  };
  for (const at of tokens.keys()) consider(at);
  for (let key = queue.pop(); key !== undefined; key = queue.pop()) {
    const at = key % PLACES;
    if (ranks[at] !== Math.floor(key / PLACES)) continue; // One of the two was merged meanwhile.
    const right = after[at] ?? 0;
    tokens[at] = `${tokens[at]}${tokens[right]}`;
    tokens[right] = "";
    ranks[right] = NO_RANK;
    const next = after[at] = after[right] ?? 0;
    if (next < tokens.length) before[next] = at;
    consider(at);
    const previous = before[at] ?? -1;
    if (previous >= 0) consider(previous);
  }
  return tokens.filter((token) => token !== "");
}

/** Numbers, of which the least comes first: a binary heap. */
class NumberQueue {
  readonly #heap: number[] = [];

  push(number: number): void {
    const heap = this.#heap;
    let at = heap.push(number) - 1;
    while (at > 0) {
      const parent = at - 1 >> 1;
      const above = heap[parent] ?? 0;
      if (above <= number) break;
      heap[at] = above;
      at = parent;
    }
    heap[at] = number;
  }

  pop(): number | undefined {
    const heap = this.#heap;
    const [least, last] = [heap[0], heap.pop()];
    if (last === undefined || heap.length === 0) return last;
    let at = 0;
    for (let child = 1; child < heap.length; child = 2 * at + 1) {
      if ((heap[child + 1] ?? Infinity) < (heap[child] ?? 0)) child++;
      const below = heap[child] ?? 0;
      if (below >= last) break;
      heap[at] = below;
      at = child;
    }
    heap[at] = last;
    return least;
  }
}
