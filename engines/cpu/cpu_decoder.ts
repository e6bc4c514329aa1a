import {
  encodeStep,
  fromArray,
  inputRows,
  KV_BLOCK_POSITIONS,
  type KvDtype,
  KvPool,
  Plan,
  rowsAttention,
  rowsRope,
  sampleRows,
  Scope,
  selectRows,
  setStep,
  type StepSequence,
  type Tensor,
} from "../../ffi/mod.ts";
import { assert } from "../../core/errors.ts";
import {
  type CachePrefix,
  type Decoder,
  type KernelTimes,
  likeliest,
  type PendingStep,
  type SequenceCache,
  type SequenceInput,
  type StepOutput,
} from "../decoder.ts";
import { doneStep, drawAll, type DrawSource } from "../local_step.ts";
import { type Attend, type TextModel, widestWindow } from "../models/text_model.ts";
import { BlockStore } from "./block_store.ts";
import { PagedCache } from "./paged_cache.ts";

/** How a decoder computes its steps. */
export interface CpuDecoderOptions {
  /**
   * Records the model's step once and replays it (the default); else each operation is computed by
   * itself, as models would be whose operations are not all ours.
   */
  readonly replays?: boolean;
  /** Type of cached keys and values. float16, the default, is what GPUs have: half the memory. */
  readonly kvDtype?: KvDtype;
}

/** The logits of a step, before anything is drawn from them, or hidden states. */
interface OutputRows extends DrawSource {
  logits(index: number): Tensor;
  hidden(): Float32Array<ArrayBuffer>;
}

/** A model, or a part of one, at work on our own CPU kernels. */
export class CpuDecoder implements Decoder {
  readonly #model: TextModel;
  readonly #pool: KvPool;
  readonly #store: BlockStore;
  readonly #plan: Plan | undefined;
  readonly blockPositions = KV_BLOCK_POSITIONS;
  readonly copiesBlocks = false;
  readonly stepsAtOnce = 1;
  readonly window: number | undefined;

  /** @throws {NativeError} when the model's layers or operations are none that the kernels know. */
  constructor(
    model: TextModel,
    { replays = true, kvDtype = "float16" }: CpuDecoderOptions = {},
  ) {
    this.#model = model;
    // First, since it may fail; what it made by then goes with it.
    this.#plan = replays ? record(model) : undefined;
    using made = new DisposableStack();
    if (this.#plan) made.use(this.#plan);
    this.#pool = new KvPool(model.kvLayers.map((layer) => ({ ...layer, dtype: kvDtype })));
    this.#store = new BlockStore(this.#pool);
    this.window = widestWindow(model);
    made.move();
  }

  kernelTimes(): KernelTimes | undefined {
    return this.#plan?.profile().milliseconds;
  }

  get cacheBytes(): number {
    return this.#store.bytes;
  }

  makeCache(prefix?: CachePrefix): SequenceCache {
    return new PagedCache(this.#store, { window: this.window, prefix });
  }

  launch(inputs: readonly SequenceInput[], rows?: Float32Array<ArrayBuffer>): PendingStep {
    return doneStep(this.run(inputs, rows));
  }

  run(inputs: readonly SequenceInput[], rows?: Float32Array<ArrayBuffer>): StepOutput {
    const { embed, logits: head } = this.#model;
    assert(embed || rows, "a part of a model that does not begin it is given rows");
    const step = encodeStep(inputs.map(sequenceOf));
    const output = this.#plan
      ? this.#replay(this.#plan, { step, rows, inputs })
      : this.#compute(step, rows);
    for (const { cache, ids } of inputs) pagedCache(cache).advance(ids.length);
    const drawn = head ? drawAll(inputs, output) : withoutHead;
    return { drawn, logits: (index) => output.logits(index), hidden: () => output.hidden() };
  }

  #replay(
    plan: Plan,
    { step, rows, inputs }: {
      readonly step: Int32Array<ArrayBuffer>;
      readonly rows: Float32Array<ArrayBuffer> | undefined;
      readonly inputs: readonly SequenceInput[];
    },
  ): OutputRows {
    const selected = inputs.reduce((sum, { logitsCount }) => sum + logitsCount, 0);
    const best = this.#model.logits && new Int32Array(selected);
    plan.replay(this.#pool, step, { rows, best });
    return {
      hidden: () => plan.outputRows(),
      best: (index) => best?.[index] ?? -1,
      logits: (index) => plan.output(index),
      sample: (draws) => plan.sample(draws),
    };
  }

  #compute(step: Int32Array<ArrayBuffer>, rows?: Float32Array<ArrayBuffer>): OutputRows {
    setStep(this.#pool, step);
    try {
      const [count = 0] = step;
      const { hiddenSize } = this.#model;
      const input = this.#model.embed
        ? fromArray(step.slice(3, 3 + count)) // As encodeStep lays it out.
        : fromArray(rows ?? [], [count, hiddenSize]);
      const output = stepGraph(this.#model, input).eval(); // [R, V], or [M, D] without a head.
      const row = (index: number) => output.take(index, 0);
      return {
        best: (index) => likeliest(row(index)),
        logits: row,
        sample: (draws) => sampleRows({ logits: output }, draws),
        hidden: () => Float32Array.from(output.toFloat32Array()),
      };
    } finally {
      setStep();
    }
  }

  [Symbol.dispose](): void {
    this.#plan?.[Symbol.dispose]();
    this.#store[Symbol.dispose]();
  }
}

function withoutHead(): never {
  throw new Error("Broken invariant: tokens are drawn where the model ends");
}

/**
 * The step of a model or a part of it: ids [M] or hidden states [M, D], to the logits [R, V] of the
 * rows that are selected or, without a head, to the hidden states of all.
 */
function stepGraph(model: TextModel, input: Tensor): Tensor {
  const hidden = model.layers(model.embed ? model.embed(input) : input, attend);
  return model.logits ? model.logits(selectRows(hidden)) : hidden;
}

const attend: Attend = ({ queries, keys, values }, { rotary, ...options }) => {
  const { heads, kvHeads } = options;
  const { table } = rotary;
  assert(table, "rotary tables are made for models whose weights are packed");
  const turned = {
    queries: rowsRope(queries, table, { heads }),
    keys: rowsRope(keys, table, { heads: kvHeads }),
    values,
  };
  return rowsAttention(turned, options);
};

/** Rows of the step that is recorded; a plan serves any number. */
const RECORDED_ROWS = 2;

function record(model: TextModel): Plan {
  using _scope = new Scope();
  const tokens = Array.from({ length: RECORDED_ROWS }, () => 0);
  const input = model.embed
    ? fromArray(Int32Array.from(tokens))
    : inputRows(RECORDED_ROWS, model.hiddenSize);
  setStep(undefined, encodeStep([{ tokens, position: 0, blocks: [], selected: [0] }]));
  try {
    return Plan.record(input, stepGraph(model, input));
  } finally {
    setStep();
  }
}

function sequenceOf({ cache, ids, logitsCount }: SequenceInput): StepSequence {
  const paged = pagedCache(cache);
  paged.reserve(ids.length);
  const selected = Array.from({ length: logitsCount }, (_, i) => ids.length - logitsCount + i);
  return { tokens: ids, position: paged.offset, blocks: paged.blocks, selected };
}

function pagedCache(cache: SequenceCache): PagedCache {
  assert(cache instanceof PagedCache, "a sequence's cache comes from the decoder that runs it");
  return cache;
}
