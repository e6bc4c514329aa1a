import {
  arange,
  clearCache,
  concatenate,
  evalAll,
  fromArray,
  less,
  lessEqual,
  logicalAnd,
  sampleRows,
  scaledDotProductAttention,
  Scope,
  type Tensor,
  zeros,
} from "../../ffi/mod.ts";
import { assert } from "../../core/errors.ts";
import {
  type CachePrefix,
  type Decoder,
  likeliest,
  type PendingStep,
  type SequenceCache,
  type SequenceInput,
  type StepOutput,
} from "../decoder.ts";
import { type KvBits, type KvCodec, kvCodec } from "../kv_codec.ts";
import { KvCache, type KvShared } from "../kv_cache.ts";
import { KV_BLOCK_TOKENS } from "../layer_cache.ts";
import { doneStep, drawAll } from "../local_step.ts";
import {
  type Attend,
  type AttentionOptions,
  type AttentionRows,
  type TextModel,
  widestWindow,
} from "../models/text_model.ts";

/** A sequence's rows of a step. */
interface Segment {
  readonly cache: KvCache;
  readonly from: number;
  readonly to: number;
  /** Masks that layers share, by their window. */
  readonly masks: Map<number, Tensor>;
  /** Turns keys and queries [1, heads, n, headDim] as their cache keeps keys best. */
  readonly turn: (x: Tensor) => Tensor;
}

/** Settings of an {@linkcode MlxDecoder}. */
export interface MlxDecoderOptions {
  /** Bits of a cached key or value; absent: of the type that the model computes in. */
  readonly kvBits?: KvBits;
}

/** A model at work on MLX's own kernels: Metal, CUDA, and CPU as the other's reference. */
export class MlxDecoder implements Decoder {
  readonly #model: TextModel;
  readonly #shared: KvShared;
  #steps = 0;
  readonly blockPositions = KV_BLOCK_TOKENS;
  readonly copiesBlocks = true;
  readonly stepsAtOnce = 1;
  readonly window: number | undefined;

  constructor(model: TextModel, { kvBits }: MlxDecoderOptions = {}) {
    this.#model = model;
    this.window = widestWindow(model);
    const codec = kvCodec(kvBits);
    this.#shared = {
      layerCount: model.kvLayers.length,
      window: this.window,
      codec,
      positionBytes: positionBytesOf(model, codec),
      held: new Set(),
    };
  }

  get cacheBytes(): number {
    return [...this.#shared.held].reduce((sum, { bytes }) => sum + bytes, 0);
  }

  makeCache(prefix?: CachePrefix): SequenceCache {
    return new KvCache(this.#shared, prefix);
  }

  launch(inputs: readonly SequenceInput[], rows?: Float32Array<ArrayBuffer>): PendingStep {
    return doneStep(this.run(inputs, rows));
  }

  run(inputs: readonly SequenceInput[], given?: Float32Array<ArrayBuffer>): StepOutput {
    const segments = segmentsOf(inputs, this.#shared.codec);
    const { logits, hidden } = this.#compute(segments, inputs, given); // [R, V]; [M, D]
    const rows = segments.at(-1)?.to ?? 0;
    this.#freeLeftovers(rows > inputs.length);
    const row = (index: number) => {
      assert(logits, "logits are there for those who wanted them");
      return logits.take(index, 0).astype("float32");
    };
    if (hidden) return { drawn: nothing, logits: row, hidden: () => f32(hidden) };
    const drawn = drawAll(inputs, {
      best: (index) => likeliest(row(index)),
      sample: (draws) => {
        assert(logits, "logits are there for those who wanted them");
        return sampleRows({ logits: logits.astype("float32") }, draws);
      },
    });
    return { drawn, logits: row };
  }

  /** The logits that are wanted; the caches have their positions then, or, if it throws, none. */
  #compute(
    segments: readonly Segment[],
    inputs: readonly SequenceInput[],
    given: Float32Array<ArrayBuffer> | undefined,
  ): { logits?: Tensor | undefined; hidden?: Tensor } {
    try {
      const { embed, logits: head, hiddenSize, sums } = this.#model;
      const ids = inputs.flatMap(({ ids }) => ids);
      assert(embed || given, "a part of a model that does not begin it is given rows");
      const first = embed
        ? embed(fromArray(Int32Array.from(ids)))
        : fromArray(given ?? [], [ids.length, hiddenSize]);
      const hidden = this.#model.layers(first, attendWithin(segments)); // [M, D]
      if (!head) {
        evalAll([...segments.flatMap(({ cache }) => cache.release()), hidden]);
        for (const { cache } of segments) cache.commit();
        return { hidden };
      }
      const wanted = segments.flatMap(({ to }, i) => {
        const count = inputs[i]?.logitsCount ?? 0;
        return Array.from({ length: count }, (_, row) => to - count + row);
      });
      const rows = hidden.take(fromArray(Int32Array.from(wanted)), 0);
      const logits = wanted.length > 0 ? head(rows) : undefined;
      // No cache needs what the last layer sums; the other ranks do sum it.
      const last = logits ?? (sums ? hidden : undefined);
      evalAll([...segments.flatMap(({ cache }) => cache.release()), ...(last ? [last] : [])]);
      for (const { cache } of segments) cache.commit();
      return { logits };
    } catch (error) {
      for (const { cache } of segments) cache.rollBack();
      throw error;
    }
  }

  /** MLX computes when it likes, and tells nobody. */
  kernelTimes(): undefined {
    return undefined;
  }

  /** The buffers of prefill are too large for decoding; those of decoding grow with each token. */
  #freeLeftovers(isPrefill: boolean): void {
    if (isPrefill || ++this.#steps % KV_BLOCK_TOKENS === 0) clearCache();
  }

  [Symbol.dispose](): void {}
}

function f32(x: Tensor): Float32Array<ArrayBuffer> {
  return Float32Array.from(x.astype("float32").toFloat32Array());
}

function nothing(): never {
  throw new Error("Broken invariant: tokens are drawn where the model ends");
}

function segmentsOf(inputs: readonly SequenceInput[], codec: KvCodec): Segment[] {
  const turn = turning(codec);
  let from = 0;
  return inputs.map(({ cache, ids }) => {
    assert(cache instanceof KvCache, "a sequence's cache comes from the decoder that runs it");
    const segment = { cache, from, to: from + ids.length, masks: new Map(), turn };
    from = segment.to;
    return segment;
  });
}

/** Multiplies by the codec's matrix, which all layers of a step share. */
function turning(codec: KvCodec): (x: Tensor) => Tensor {
  const made = new Map<number, Tensor>();
  return (x) => {
    const headDim = x.shape.at(-1) ?? 0;
    const values = codec.turn(headDim);
    if (!values) return x;
    const matrix = made.get(headDim) ?? fromArray(values, [headDim, headDim]).astype(x.dtype);
    made.set(headDim, matrix);
    return x.matmul(matrix);
  };
}

/** Bytes that a position has in all layers: of which type, shows when the model is issued. */
function positionBytesOf(model: TextModel, codec: KvCodec): number {
  using _scope = new Scope();
  let bytes = 0;
  const row = model.embed?.(fromArray(Int32Array.of(0))) ?? zeros([1, model.hiddenSize]);
  model.layers(row, ({ queries, keys, values }, options) => {
    const { kvHeads, headDim, rotary } = options;
    const split = (x: Tensor) => x.reshape(1, kvHeads, 1, headDim);
    const parts = [...codec.encode(rotary.turn(split(keys), 0)), ...codec.encode(split(values))];
    for (const { nbytes } of parts) bytes += nbytes;
    return queries;
  });
  return bytes;
}

function attendWithin(segments: readonly Segment[]): Attend {
  return (rows, options) => {
    const parts = segments.map((segment) => attendOne(segment, rows, options));
    const [only] = parts;
    return parts.length === 1 && only ? only : concatenate(parts, 0);
  };
}

/** Rows of one sequence: [n, heads × headDim]. */
function attendOne(segment: Segment, rows: AttentionRows, options: AttentionOptions): Tensor {
  const { cache, from, to, turn } = segment;
  const { layer, heads, kvHeads, headDim, scale, rotary, window } = options;
  const split = (x: Tensor, count: number) =>
    x.slice([from, 0], [to, count * headDim])
      .reshape(1, to - from, count, headDim)
      .transpose(0, 2, 1, 3); // [1, count, n, headDim]
  const past = cache.layers[layer];
  assert(past, "a cache has all layers");
  const { offset } = past;
  const queries = turn(rotary.turn(split(rows.queries, heads), offset));
  const keys = turn(rotary.turn(split(rows.keys, kvHeads), offset));
  const all = past.append(keys, split(rows.values, kvHeads), window);
  const mask = maskOf(segment, offset, window);
  const out = scaledDotProductAttention(queries, all.keys, all.values, { scale, mask });
  return out.transpose(0, 2, 1, 3).reshape(to - from, heads * headDim);
}

/** Which of the keys each row sees; the first row sees them from the first. */
function maskOf(
  { from, to, masks }: Segment,
  offset: number,
  window = Infinity,
): "causal" | Tensor | undefined {
  const rows = to - from;
  if (rows === 1) return undefined;
  if (offset + rows <= window) return "causal";
  const made = masks.get(window) ?? windowMask(offset, rows, window);
  masks.set(window, made);
  return made;
}

/** Row i at position offset + i sees its last `window` keys: [rows, keys]. */
function windowMask(offset: number, rows: number, window: number): Tensor {
  const end = offset + rows;
  const keys = arange(Math.max(0, offset + 1 - window), end).reshape(1, -1);
  const own = arange(offset, end).reshape(-1, 1);
  return logicalAnd(lessEqual(keys, own), less(own.subtract(window), keys));
}
