import { clearCache, type Tensor, zeros } from "../ffi/mod.ts";
import type { SequenceCache } from "./decoder.ts";

/** Positions by which a cache grows: a copy of what it holds once in so many tokens. */
export const KV_BLOCK_TOKENS = 256;

/** The keys and values of one layer, [B, kvHeads, T, headDim] each. */
export class LayerCache implements Disposable {
  #keys: Tensor | undefined;
  #values: Tensor | undefined;
  #capacity = 0;
  #offset = 0;

  /** Positions filled so far. */
  get offset(): number {
    return this.#offset;
  }

  /** Bytes held, filled or not. */
  get bytes(): number {
    return (this.#keys?.nbytes ?? 0) + (this.#values?.nbytes ?? 0);
  }

  /** Keys and values that wait to be computed. */
  get arrays(): Tensor[] {
    return [this.#keys, this.#values].filter((tensor) => tensor !== undefined);
  }

  /**
   * Adds the next positions' keys and values [B, kvHeads, L, headDim]; returns those of all
   * positions, as views that live as long as the scope around the call.
   */
  append(keys: Tensor, values: Tensor): { keys: Tensor; values: Tensor } {
    const from = this.#offset;
    const to = from + (keys.shape[2] ?? 0);
    const capacity = Math.max(this.#capacity, Math.ceil(to / KV_BLOCK_TOKENS) * KV_BLOCK_TOKENS);
    this.#keys = write(grow(this.#keys, keys, capacity), keys, from, to);
    this.#values = write(grow(this.#values, values, capacity), values, from, to);
    [this.#capacity, this.#offset] = [capacity, to];
    return { keys: upTo(this.#keys, to), values: upTo(this.#values, to) };
  }

  [Symbol.dispose](): void {
    for (const tensor of this.arrays) tensor[Symbol.dispose]();
    this.#keys = this.#values = undefined;
    this.#capacity = this.#offset = 0;
  }
}

/** The buffer with room for `capacity` positions; the old one is freed if it had less. */
function grow(buffer: Tensor | undefined, like: Tensor, capacity: number): Tensor {
  if (buffer && buffer.shape[2] === capacity) return buffer;
  const [B = 1, heads = 1, , headDim = 1] = like.shape;
  // From the system, now: MLX would hand out a larger buffer that it holds for reuse, if one is
  // there, and count all of it. Nothing is under way while a step's graph is built.
  clearCache();
  const room = zeros([B, heads, capacity, headDim], like.dtype).eval();
  if (!buffer) return room.keep();
  const grown = room.sliceUpdate(buffer, [0, 0, 0, 0], [...buffer.shape]).keep();
  room[Symbol.dispose]();
  buffer[Symbol.dispose]();
  return grown;
}

/** The buffer with positions [from, to) written, in place: its own handle goes before it is run. */
function write(buffer: Tensor, update: Tensor, from: number, to: number): Tensor {
  const [B = 1, heads = 1, , headDim = 1] = buffer.shape;
  const written = buffer.sliceUpdate(update, [0, 0, from, 0], [B, heads, to, headDim]).keep();
  buffer[Symbol.dispose]();
  return written;
}

function upTo(buffer: Tensor, to: number): Tensor {
  const [B = 1, heads = 1, , headDim = 1] = buffer.shape;
  return buffer.slice([0, 0, 0, 0], [B, heads, to, headDim]);
}

/** The keys and values of one request over all layers. */
export class KvCache implements SequenceCache {
  readonly layers: readonly LayerCache[];

  constructor(layerCount: number) {
    this.layers = Array.from({ length: layerCount }, () => new LayerCache());
  }

  /** Positions filled so far. */
  get offset(): number {
    return this.layers[0]?.offset ?? 0;
  }

  /** Bytes held over all layers: what MLX's active memory has more because of this request. */
  get bytes(): number {
    return this.layers.reduce((sum, layer) => sum + layer.bytes, 0);
  }

  /** Everything that waits to be computed. */
  get arrays(): Tensor[] {
    return this.layers.flatMap((layer) => layer.arrays);
  }

  [Symbol.dispose](): void {
    for (const layer of this.layers) layer[Symbol.dispose]();
  }
}
