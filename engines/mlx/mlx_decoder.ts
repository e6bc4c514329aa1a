import {
  clearCache,
  concatenate,
  evalAll,
  fromArray,
  sampleRows,
  scaledDotProductAttention,
  type Tensor,
} from "../../ffi/mod.ts";
import { assert } from "../../core/errors.ts";
import {
  type Decoder,
  likeliest,
  type SequenceCache,
  type SequenceInput,
  type StepOutput,
} from "../decoder.ts";
import { KV_BLOCK_TOKENS, KvCache } from "../kv_cache.ts";
import type { Attend, AttentionOptions, AttentionRows, TextModel } from "../models/text_model.ts";

/** A sequence's rows of a step. */
interface Segment {
  readonly cache: KvCache;
  readonly from: number;
  readonly to: number;
}

/** A model at work on MLX's own kernels: Metal, CUDA, and CPU as the other's reference. */
export class MlxDecoder implements Decoder {
  readonly #model: TextModel;
  #steps = 0;

  constructor(model: TextModel) {
    this.#model = model;
  }

  makeCache(): SequenceCache {
    return new KvCache(this.#model.kvLayers.length);
  }

  run(inputs: readonly SequenceInput[]): StepOutput {
    const segments = segmentsOf(inputs);
    const ids = fromArray(Int32Array.from(inputs.flatMap(({ ids }) => ids)));
    const hidden = this.#model.hidden(ids, attendWithin(segments)); // [M, D]
    const wanted = segments.flatMap(({ to }, i) => {
      const count = inputs[i]?.logitsCount ?? 0;
      return Array.from({ length: count }, (_, row) => to - count + row);
    });
    const rows = hidden.take(fromArray(Int32Array.from(wanted)), 0);
    const logits = wanted.length > 0 ? this.#model.logits(rows) : undefined; // [R, V]
    evalAll([...segments.flatMap(({ cache }) => cache.arrays), ...(logits ? [logits] : [])]);
    this.#freeLeftovers(ids.size > inputs.length);
    const row = (index: number) => {
      assert(logits, "logits are there for those who wanted them");
      return logits.take(index, 0).astype("float32");
    };
    return {
      best: (index) => likeliest(row(index)),
      logits: row,
      sample: (draws) => {
        assert(logits, "logits are there for those who wanted them");
        return sampleRows({ logits: logits.astype("float32") }, draws);
      },
    };
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

function segmentsOf(inputs: readonly SequenceInput[]): Segment[] {
  let from = 0;
  return inputs.map(({ cache, ids }) => {
    assert(cache instanceof KvCache, "a sequence's cache comes from the decoder that runs it");
    const segment = { cache, from, to: from + ids.length };
    from = segment.to;
    return segment;
  });
}

function attendWithin(segments: readonly Segment[]): Attend {
  return (rows, options) => {
    const parts = segments.map((segment) => attendOne(segment, rows, options));
    const [only] = parts;
    return parts.length === 1 && only ? only : concatenate(parts, 0);
  };
}

/** Rows of one sequence: [n, heads × headDim]. */
function attendOne(
  { cache, from, to }: Segment,
  rows: AttentionRows,
  { layer, heads, kvHeads, headDim, scale, rotary }: AttentionOptions,
): Tensor {
  const split = (x: Tensor, count: number) =>
    x.slice([from, 0], [to, count * headDim])
      .reshape(1, to - from, count, headDim)
      .transpose(0, 2, 1, 3); // [1, count, n, headDim]
  const past = cache.layers[layer];
  assert(past, "a cache has all layers");
  const { offset } = past;
  const queries = rotary.turn(split(rows.queries, heads), offset);
  const keys = rotary.turn(split(rows.keys, kvHeads), offset);
  const all = past.append(keys, split(rows.values, kvHeads));
  const mask = to - from > 1 ? "causal" : undefined;
  const out = scaledDotProductAttention(queries, all.keys, all.values, { scale, mask });
  return out.transpose(0, 2, 1, 3).reshape(to - from, heads * headDim);
}
