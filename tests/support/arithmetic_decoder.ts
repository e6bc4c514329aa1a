import { assert } from "../../core/errors.ts";
import { BlockStore } from "../../engines/cpu/block_store.ts";
import { PagedCache } from "../../engines/cpu/paged_cache.ts";
import {
  type CachePrefix,
  type Decoder,
  likeliest,
  type PendingStep,
  type SequenceCache,
  type SequenceInput,
  type StepOutput,
} from "../../engines/decoder.ts";
import { doneStep, drawAll } from "../../engines/local_step.ts";
import { fromArray, KV_BLOCK_POSITIONS, sampleRows } from "../../ffi/mod.ts";

/** Numbers of a hidden state, and what they stay below: all sums are exact. */
export const HIDDEN = 4;
const PRIME = 65_521;

/** Words that an {@linkcode ArithmeticDecoder} knows unless it is told. */
const VOCAB_SIZE = 50;

/** Blocks as numbers in plain memory, which a test can count and limit. */
class PlainPool {
  readonly #blocks = new Map<number, Float64Array>();
  readonly #numbers: number;
  readonly blockBytes: number;
  #next = 0;
  blocksMax = Infinity;

  constructor(layers: number) {
    this.#numbers = layers * KV_BLOCK_POSITIONS;
    this.blockBytes = this.#numbers * Float64Array.BYTES_PER_ELEMENT;
  }

  of(id: number): Float64Array {
    const block = this.#blocks.get(id);
    assert(block, `block ${id} is in use`);
    return block;
  }

  take(): number {
    if (this.#blocks.size >= this.blocksMax) throw new Error("no memory for another block");
    // What was there before is nobody's business, and wrong if it is looked at.
    this.#blocks.set(this.#next, new Float64Array(this.#numbers).fill(NaN));
    return this.#next++;
  }

  copy(id: number): number {
    const made = this.take();
    this.of(made).set(this.of(id));
    return made;
  }

  giveBack(id: number): void {
    assert(this.#blocks.delete(id), "a block is given back once");
  }

  [Symbol.dispose](): void {
    this.#blocks.clear();
  }
}

/** Which layers of how many a decoder has. */
export interface ArithmeticPart {
  readonly layers: number;
  readonly from?: number;
  readonly to?: number;
  readonly window?: number;
  readonly vocabSize?: number;
}

/**
 * A decoder whose model is whole-number arithmetic: what it says depends on each token before, and
 * is the same for any way to split its layers. Its caches are paged like those of the CPU decoder.
 */
export class ArithmeticDecoder implements Decoder {
  readonly #part: Required<Omit<ArithmeticPart, "window">>;
  readonly #pool: PlainPool;
  readonly #store: BlockStore;
  readonly blockPositions = KV_BLOCK_POSITIONS;
  readonly copiesBlocks = false;
  readonly stepsAtOnce = 1;
  readonly window: number | undefined;
  /** Thrown by the steps for which it gives a message. */
  fault: (inputs: readonly SequenceInput[]) => string | undefined = () => undefined;

  constructor(part: ArithmeticPart) {
    this.#part = { from: 0, to: part.layers, vocabSize: VOCAB_SIZE, ...part };
    this.#pool = new PlainPool(this.#part.to - this.#part.from);
    this.#store = new BlockStore(this.#pool);
    this.window = part.window;
  }

  get vocabSize(): number {
    return this.#part.vocabSize;
  }

  get cacheBytes(): number {
    return this.#store.bytes;
  }

  /** Most blocks that it has memory for. */
  set blocksMax(count: number) {
    this.#pool.blocksMax = count;
  }

  makeCache(prefix?: CachePrefix): SequenceCache {
    return new PagedCache(this.#store, { window: this.window, prefix });
  }

  launch(inputs: readonly SequenceInput[], rows?: Float32Array<ArrayBuffer>): PendingStep {
    return doneStep(this.run(inputs, rows));
  }

  run(inputs: readonly SequenceInput[], rows?: Float32Array<ArrayBuffer>): StepOutput {
    assert(
      (rows === undefined) === (this.#part.from === 0),
      "later parts take rows, the first ids",
    );
    const message = this.fault(inputs);
    if (message !== undefined) throw new Error(message);
    for (const { cache, ids } of inputs) paged(cache).reserve(ids.length);
    let from = 0;
    const hidden = inputs.flatMap(({ cache, ids }) => {
      const begin = from;
      from += ids.length;
      return ids.map((id, i) => {
        const at = (begin + i) * HIDDEN;
        const x = rows ? [...rows.subarray(at, at + HIDDEN)] : embedded(id, this.vocabSize);
        return this.#layers(x, paged(cache), paged(cache).offset + i);
      });
    });
    for (const { cache, ids } of inputs) paged(cache).advance(ids.length);
    const { to, layers } = this.#part;
    return to < layers ? unfinished(hidden) : this.#finish(inputs, hidden);
  }

  #layers(x: readonly number[], cache: PagedCache, position: number): number[] {
    const { from, to } = this.#part;
    let state = [...x];
    for (let layer = from; layer < to; layer++) {
      const at = (layer - from) * KV_BLOCK_POSITIONS;
      const place = (p: number) => {
        const block = this.#pool.of(cache.blocks[Math.floor(p / KV_BLOCK_POSITIONS)] ?? -1);
        return [block, at + p % KV_BLOCK_POSITIONS] as const;
      };
      const [block, index] = place(position);
      block[index] = (7 * (state[0] ?? 0) + 3 * (state[1] ?? 0) + layer) % PRIME;
      let seen = 0;
      for (let p = Math.max(0, position + 1 - (this.window ?? Infinity)); p <= position; p++) {
        const [block, index] = place(p);
        seen = (seen + (p + 1) * (block[index] ?? NaN)) % PRIME;
      }
      state = state.map((value, j) => (5 * value + seen * (j + 1) + layer) % PRIME);
    }
    return state;
  }

  #finish(inputs: readonly SequenceInput[], hidden: readonly (readonly number[])[]): StepOutput {
    let end = 0;
    const rows = inputs.flatMap(({ ids, logitsCount }) => {
      end += ids.length;
      return hidden.slice(end - logitsCount, end).map((x) => this.#logits(x));
    });
    const all = () => fromArray(Float32Array.from(rows.flat()), [rows.length, this.vocabSize]);
    const row = (index: number) => fromArray(Float32Array.from(rows[index] ?? []));
    const drawn = drawAll(inputs, {
      best: (index) => likeliest(row(index)),
      sample: (draws) => sampleRows({ logits: all() }, draws),
    });
    return { drawn, logits: row };
  }

  #logits(x: readonly number[]): number[] {
    return Array.from({ length: this.vocabSize }, (_, v) => {
      const mixed = (x[v % HIDDEN] ?? 0) * (v + 1) + (x[(v + 1) % HIDDEN] ?? 0);
      return 8 * (mixed % PRIME) / PRIME;
    });
  }

  kernelTimes(): undefined {
    return undefined;
  }

  [Symbol.dispose](): void {
    this.#store[Symbol.dispose]();
  }
}

function embedded(id: number, vocabSize: number): number[] {
  assert(id < vocabSize, `token ${id} is one of ${vocabSize}`);
  return Array.from({ length: HIDDEN }, (_, j) => (id * (2 * j + 3) + j) % PRIME);
}

function unfinished(hidden: readonly (readonly number[])[]): StepOutput {
  const nothing = () => {
    throw new Error("the part ends before the logits");
  };
  return { drawn: nothing, logits: nothing, hidden: () => Float32Array.from(hidden.flat()) };
}

function paged(cache: SequenceCache): PagedCache {
  assert(cache instanceof PagedCache, "a sequence's cache comes from the decoder that runs it");
  return cache;
}
