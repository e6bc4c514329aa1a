import { clearCache, concatenate, evalAll, Scope, type Tensor, zeros } from "../ffi/mod.ts";
import { assert } from "../core/errors.ts";
import type { CachePrefix, KvBlock, SequenceCache } from "./decoder.ts";
import type { KvCodec } from "./kv_codec.ts";
import {
  blocksBehind,
  capacityAtOnce,
  copied,
  type KeptKeysAndValues,
  KV_BLOCK_TOKENS,
  LayerCache,
  slice,
  tensorsOf,
} from "./layer_cache.ts";

/** What caches and blocks of a decoder have in common. */
export interface KvShared {
  readonly layerCount: number;
  /** Last positions that a row sees in every layer; all where undefined. */
  readonly window: number | undefined;
  readonly codec: KvCodec;
  /** Bytes of a position over all layers. */
  readonly positionBytes: number;
  /** Whatever holds memory, until it is disposed. */
  readonly held: Set<{ readonly bytes: number }>;
}

/** A copy of a block's filled positions. */
class CopiedBlock implements KvBlock {
  readonly shared: KvShared;
  readonly index: number;
  readonly filled: number;
  readonly layers: readonly KeptKeysAndValues[];

  constructor(shared: KvShared, layers: readonly KeptKeysAndValues[], place: {
    readonly index: number;
    readonly filled: number;
  }) {
    this.shared = shared;
    this.layers = layers;
    this.index = place.index;
    this.filled = place.filled;
    shared.held.add(this);
  }

  get bytes(): number {
    return this.filled * this.shared.positionBytes;
  }

  /** A copy is nobody else's. */
  get ownBytes(): number {
    return this.shared.held.has(this) ? this.bytes : 0;
  }

  [Symbol.dispose](): void {
    if (!this.shared.held.delete(this)) return;
    for (const array of this.layers.flatMap(tensorsOf)) array[Symbol.dispose]();
  }
}

/** The keys and values of one request over all layers. */
export class KvCache implements SequenceCache {
  readonly layers: readonly LayerCache[];
  readonly #shared: KvShared;

  constructor(shared: KvShared, prefix?: CachePrefix) {
    this.#shared = shared;
    this.layers = Array.from({ length: shared.layerCount }, () => new LayerCache(shared));
    if (prefix && prefix.positions > 0) this.#resume(prefix);
    shared.held.add(this);
  }

  /** Positions filled so far. */
  get offset(): number {
    return this.layers[0]?.offset ?? 0;
  }

  /** Bytes held over all layers: what MLX's active memory has more because of this request. */
  get bytes(): number {
    return this.layers.reduce((sum, layer) => sum + layer.bytes, 0);
  }

  bytesFor(count: number, stepTokens = count): number {
    // The last, since it has no more room than the others if a step failed while they grew.
    const layer = this.layers.at(-1);
    assert(layer, "a model has layers");
    const { window, positionBytes } = this.#shared;
    const most = count > stepTokens ? capacityAtOnce(stepTokens, window) : Infinity;
    const more = Math.min(layer.roomFor(count).capacity, most) - layer.capacity;
    return Math.max(0, more) * positionBytes;
  }

  /** A copy of the block: MLX's arrays are in one piece for each sequence. */
  share(index: number): KvBlock | undefined {
    const from = index * KV_BLOCK_TOKENS;
    const to = Math.min(this.offset, from + KV_BLOCK_TOKENS);
    assert(index >= 0 && from < to, "a block is shared when it has positions");
    if (from < (this.layers[0]?.start ?? 0)) return undefined;
    using _scope = new Scope();
    const copies = this.layers.map((layer) => layer.copy(from, to));
    const layers = computed(copies);
    return new CopiedBlock(this.#shared, layers, { index, filled: to - from });
  }

  /** Lets go of what a step overwrites: what it has to compute for this cache. */
  release(): Tensor[] {
    for (const layer of this.layers) layer.release();
    return this.layers.flatMap((layer) => layer.arrays);
  }

  /** Counts what a step has computed. */
  commit(): void {
    for (const layer of this.layers) layer.commit();
  }

  /** Forgets a step that failed: it is as it was before, or empty if that was released. */
  rollBack(): void {
    for (const layer of this.layers) layer.rollBack();
  }

  [Symbol.dispose](): void {
    for (const layer of this.layers) layer[Symbol.dispose]();
    this.#shared.held.delete(this);
  }

  #resume({ blocks, positions }: CachePrefix): void {
    const { window = Infinity } = this.#shared;
    const needed = Math.ceil(positions / KV_BLOCK_TOKENS);
    assert(blocks.length === needed, "a prefix has blocks for all of it");
    const gone = blocksBehind(positions, window);
    const visible = blocks.slice(gone).map((block, i) => {
      assert(
        block instanceof CopiedBlock && block.shared === this.#shared,
        "blocks are its decoder's",
      );
      const used = Math.min(positions - (gone + i) * KV_BLOCK_TOKENS, KV_BLOCK_TOKENS);
      const isThere = block.index === gone + i && block.filled >= used &&
        block.shared.held.has(block);
      assert(isThere, "blocks come whole and in order");
      return { block, used };
    });
    using _scope = new Scope();
    const joinedBy = (layer: number, of: keyof KeptKeysAndValues) => {
      const parts = visible.map(({ block, used }) => {
        const held = block.layers[layer];
        assert(held, "a block has all layers");
        return held[of].map((array) => slice(array, 0, used));
      });
      return (parts[0] ?? []).map((_, i) => join(parts.flatMap((part) => part[i] ?? [])));
    };
    const joined = computed(
      this.layers.map((_, i) => ({ keys: joinedBy(i, "keys"), values: joinedBy(i, "values") })),
    );
    const place = { start: gone * KV_BLOCK_TOKENS, offset: positions };
    this.layers.forEach((layer, i) => {
      const own = joined[i];
      if (own) layer.adopt(own, place);
    });
  }
}

/** One after the other in a buffer of whole blocks, not computed yet. */
function join(parts: readonly Tensor[]): Tensor {
  const [B = 1, heads = 1, , headDim = 1] = parts[0]?.shape ?? [];
  const filled = parts.reduce((sum, part) => sum + (part.shape[2] ?? 0), 0);
  const room = Math.ceil(filled / KV_BLOCK_TOKENS) * KV_BLOCK_TOKENS - filled;
  const rest = room > 0 ? [zeros([B, heads, room, headDim], parts[0]?.dtype)] : [];
  const [first, ...others] = [...parts, ...rest];
  assert(first, "a prefix has a block");
  return others.length === 0 ? copied(first) : concatenate([first, ...others], 2);
}

/** The arrays of each layer, computed and kept; in memory of just their size. */
function computed(layers: readonly KeptKeysAndValues[]): KeptKeysAndValues[] {
  clearCache(); // As in grow().
  evalAll(layers.flatMap(tensorsOf));
  const kept = (arrays: readonly Tensor[]) => arrays.map((array) => array.keep());
  return layers.map(({ keys, values }) => ({ keys: kept(keys), values: kept(values) }));
}
