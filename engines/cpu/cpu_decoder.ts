import {
  encodeStep,
  fromArray,
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

/** The logits of a step, before anything is drawn from them. */
interface LogitRows extends DrawSource {
  logits(index: number): Tensor;
}

/** A model at work on our own CPU kernels. */
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

  launch(inputs: readonly SequenceInput[]): PendingStep {
    return doneStep(this.run(inputs));
  }

  run(inputs: readonly SequenceInput[]): StepOutput {
    const step = encodeStep(inputs.map(sequenceOf));
    const rows = this.#plan ? this.#replay(this.#plan, step, inputs) : this.#compute(step);
    for (const { cache, ids } of inputs) pagedCache(cache).advance(ids.length);
    return { drawn: drawAll(inputs, rows), logits: (index) => rows.logits(index) };
  }

  #replay(
    plan: Plan,
    step: Int32Array<ArrayBuffer>,
    inputs: readonly SequenceInput[],
  ): LogitRows {
    const best = new Int32Array(inputs.reduce((sum, { logitsCount }) => sum + logitsCount, 0));
    plan.replay(this.#pool, step, { best });
    return {
      best: (index) => best[index] ?? -1,
      logits: (index) => plan.output(index),
      sample: (draws) => plan.sample(draws),
    };
  }

  #compute(step: Int32Array<ArrayBuffer>): LogitRows {
    setStep(this.#pool, step);
    try {
      const [rows = 0] = step;
      const ids = fromArray(step.slice(3, 3 + rows)); // As encodeStep lays it out.
      const logits = stepGraph(this.#model, ids).eval(); // [R, V]
      const row = (index: number) => logits.take(index, 0);
      return {
        best: (index) => likeliest(row(index)),
        logits: row,
        sample: (draws) => sampleRows({ logits }, draws),
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

/** The whole step: ids [M] to the logits [R, V] of the rows that are selected. */
function stepGraph(model: TextModel, ids: Tensor): Tensor {
  assert(model.embed && model.logits, "a model alone has its embedding and its head");
  return model.logits(selectRows(model.layers(model.embed(ids), attend)));
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
  const ids = fromArray(Int32Array.from(tokens));
  setStep(undefined, encodeStep([{ tokens, position: 0, blocks: [], selected: [0] }]));
  try {
    return Plan.record(ids, stepGraph(model, ids));
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
