import { clearCache, type Tensor, zeros } from "../ffi/mod.ts";
import { assert } from "../core/errors.ts";
import { type KvCodec, kvCodec } from "./kv_codec.ts";

/** Positions of a block, and by which a cache grows: a copy of what it holds once in so many. */
export const KV_BLOCK_TOKENS = 256;

/** Keys and values, [B, kvHeads, T, headDim] each. */
export interface KeysAndValues {
  readonly keys: Tensor;
  readonly values: Tensor;
}

/** The same as a codec keeps them: arrays [B, kvHeads, T, …]. */
export interface KeptKeysAndValues {
  readonly keys: readonly Tensor[];
  readonly values: readonly Tensor[];
}

/** All arrays of a layer. */
export function tensorsOf({ keys, values }: KeptKeysAndValues): Tensor[] {
  return [...keys, ...values];
}

/** Whole blocks that no row at `position` or later sees: each row sees `window` positions. */
export function blocksBehind(position: number, window: number): number {
  return Math.floor(Math.max(0, position + 1 - window) / KV_BLOCK_TOKENS);
}

/** Most positions of whole blocks in which a step's rows and what its first row sees may lie. */
export function capacityAtOnce(stepTokens: number, window = Infinity): number {
  return (Math.ceil((window + stepTokens - 2) / KV_BLOCK_TOKENS) + 1) * KV_BLOCK_TOKENS;
}

/** The keys and values of one layer, [B, kvHeads, T, headDim] each, as a codec keeps them. */
export class LayerCache implements Disposable {
  readonly #window: number;
  readonly #codec: KvCodec;
  #keys: readonly Tensor[] = [];
  #values: readonly Tensor[] = [];
  /** The buffers hold positions [start, start + capacity), filled up to the offset. */
  #start = 0;
  #capacity = 0;
  #offset = 0;
  /** What a step that is not computed yet makes of them. */
  #written: (KeptKeysAndValues & { readonly offset: number }) | undefined;

  /** What no row sees that has `window` positions may be dropped: all is kept if left out. */
  constructor({ window = Infinity, codec = kvCodec(undefined) }: {
    readonly window?: number | undefined;
    readonly codec?: KvCodec;
  } = {}) {
    this.#window = window;
    this.#codec = codec;
  }

  /** Positions filled so far. */
  get offset(): number {
    return this.#offset;
  }

  /** The first position that is still there: the first of a block. */
  get start(): number {
    return this.#start;
  }

  /** Positions that there is room for, filled or not. */
  get capacity(): number {
    return this.#capacity;
  }

  /** Bytes held, filled or not. */
  get bytes(): number {
    return this.arrays.reduce((sum, { nbytes }) => sum + nbytes, 0);
  }

  /** Keys and values; after {@linkcode release}, as they wait to be computed. */
  get arrays(): Tensor[] {
    return tensorsOf({ keys: this.#keys, values: this.#values });
  }

  /** Where the buffers begin and what they have room for once there are `count` positions more. */
  roomFor(count: number): { readonly start: number; readonly capacity: number } {
    const to = this.#offset + count;
    if (to <= this.#start + this.#capacity) return { start: this.#start, capacity: this.#capacity };
    const start = blocksBehind(this.#offset, this.#window) * KV_BLOCK_TOKENS;
    return { start, capacity: Math.ceil(to / KV_BLOCK_TOKENS) * KV_BLOCK_TOKENS - start };
  }

  /**
   * Writes the next positions' keys and values [B, kvHeads, L, headDim], which count once they are
   * computed and {@linkcode commit} is called; returns those of all that the first of them sees with
   * `window` positions and the later ones, as views that live as long as the scope around the call.
   */
  append(keys: Tensor, values: Tensor, window = Infinity): KeysAndValues {
    const count = keys.shape[2] ?? 0;
    const [from, to] = [this.#offset, this.#offset + count];
    assert(!this.#written, "a step is committed or rolled back before the next one writes");
    const encoded = { keys: this.#codec.encode(keys), values: this.#codec.encode(values) };
    this.#makeRoom(count, encoded);
    const [at, end] = [from - this.#start, to - this.#start];
    const added = (buffers: readonly Tensor[], parts: readonly Tensor[]) =>
      parts.map((part, i) => {
        const buffer = buffers[i];
        assert(buffer, "room is made before it is written to");
        return write(buffer, part, at, end);
      });
    const written = {
      keys: added(this.#keys, encoded.keys),
      values: added(this.#values, encoded.values),
    };
    this.#written = { ...written, offset: to };
    const first = Math.max(0, from + 1 - window) - this.#start;
    const seen = (buffers: readonly Tensor[], { shape: [, , , headDim = 1] }: Tensor) =>
      this.#codec.decode(buffers.map((buffer) => slice(buffer, first, end)), headDim);
    return { keys: seen(written.keys, keys), values: seen(written.values, values) };
  }

  /** Lets go of the buffers as they were, so that what is written goes into them in place. */
  release(): void {
    if (!this.#written) return;
    for (const before of this.arrays) before[Symbol.dispose]();
    ({ keys: this.#keys, values: this.#values } = this.#written);
  }

  /** Counts what was written, and has been computed. */
  commit(): void {
    this.#offset = this.#written?.offset ?? this.#offset;
    this.#written = undefined;
  }

  /** Forgets what was written. What it was to be written to is lost if that was released. */
  rollBack(): void {
    const written = this.#written;
    this.#written = undefined;
    if (written?.keys === this.#keys) this[Symbol.dispose]();
    else if (written) { for (const tensor of tensorsOf(written)) tensor[Symbol.dispose](); }
  }

  /** Buffers with room for `count` more of such positions; only then the old ones go. */
  #makeRoom(count: number, like: KeptKeysAndValues): void {
    const { start, capacity } = this.roomFor(count);
    if (start === this.#start && capacity === this.#capacity) return;
    const moved = { from: start - this.#start, to: this.#offset - this.#start, capacity };
    using made = new DisposableStack();
    const grown = (buffers: readonly Tensor[], parts: readonly Tensor[]) =>
      parts.map((part, i) => made.use(grow(buffers[i], part, moved)));
    const [keys, values] = [grown(this.#keys, like.keys), grown(this.#values, like.values)];
    made.move();
    for (const old of this.arrays) old[Symbol.dispose]();
    [this.#keys, this.#values] = [keys, values];
    [this.#start, this.#capacity] = [start, capacity];
  }

  /** Takes over buffers that hold the positions from `start` to `offset`. */
  adopt({ keys, values }: KeptKeysAndValues, { start, offset }: { start: number; offset: number }) {
    [this.#keys, this.#values] = [keys, values];
    [this.#start, this.#capacity, this.#offset] = [start, keys[0]?.shape[2] ?? 0, offset];
  }

  /** Positions [from, to) as arrays of their own, not computed yet, in the innermost scope. */
  copy(from: number, to: number): KeptKeysAndValues {
    const isFilled = from >= this.#start && to <= this.#offset;
    assert(isFilled, "a layer is copied where it is filled");
    const part = (x: Tensor) => copied(slice(x, from - this.#start, to - this.#start));
    return { keys: this.#keys.map(part), values: this.#values.map(part) };
  }

  [Symbol.dispose](): void {
    this.rollBack();
    for (const tensor of this.arrays) tensor[Symbol.dispose]();
    this.#keys = this.#values = [];
    this.#start = this.#capacity = this.#offset = 0;
  }
}

/** An array of its own: MLX would hand on the buffer that a slice or a single part lies in. */
export function copied(x: Tensor): Tensor {
  return x.multiply(1);
}

/** A buffer with room for `capacity` positions, which begins with those of another, [from, to). */
function grow(
  buffer: Tensor | undefined,
  like: Tensor,
  { from, to, capacity }: { readonly from: number; readonly to: number; readonly capacity: number },
): Tensor {
  const [B = 1, heads = 1, , headDim = 1] = like.shape;
  // From the system, now: MLX would hand out a larger buffer that it holds for reuse, if one is
  // there, and count all of it. Nothing is under way while a step's graph is built.
  clearCache();
  const room = zeros([B, heads, capacity, headDim], like.dtype).eval();
  if (!buffer || from === to) return room.keep();
  using held = slice(buffer, from, to);
  const grown = room.sliceUpdate(held, [0, 0, 0, 0], [...held.shape]);
  room[Symbol.dispose]();
  // Now, so that the old buffer is gone before the next layer grows.
  return grown.eval().keep();
}

/** The buffer with positions [from, to) written: in place if its own handle goes before it is run. */
function write(buffer: Tensor, update: Tensor, from: number, to: number): Tensor {
  const [B = 1, heads = 1, , headDim = 1] = buffer.shape;
  return buffer.sliceUpdate(update, [0, 0, from, 0], [B, heads, to, headDim]).keep();
}

/** Positions [from, to) of a buffer, as a view. */
export function slice(buffer: Tensor, from: number, to: number): Tensor {
  const [B = 1, heads = 1, , headDim = 1] = buffer.shape;
  return buffer.slice([0, 0, from, 0], [B, heads, to, headDim]);
}
