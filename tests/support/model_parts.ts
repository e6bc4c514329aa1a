import { ok } from "node:assert/strict";
import type { ModelStage } from "../../engines/models/part.ts";
import type { TextModel } from "../../engines/models/text_model.ts";
import type { Tensor } from "../../ffi/mod.ts";

/** Stages of these many layers each, first to last. */
export function stagesOf(counts: readonly number[]): ModelStage[] {
  const layers = counts.reduce((sum, count) => sum + count, 0);
  let startLayer = 0;
  return counts.map((count) => {
    const stage = { type: "stage" as const, startLayer, endLayer: startLayer + count, layers };
    startLayer += count;
    return stage;
  });
}

/** The model that stages are together, each taking the rows of the one before it. */
export function joined(stages: readonly TextModel[]): TextModel {
  const [first, last] = [stages[0], stages.at(-1)];
  ok(first?.embed && last?.logits, "the first stage embeds, the last has the head");
  let from = 0;
  const shifted = stages.map((stage) => {
    const start = from;
    from += stage.kvLayers.length;
    return { stage, start };
  });
  return {
    ...last,
    kvLayers: stages.flatMap(({ kvLayers }) => kvLayers),
    embed: first.embed,
    logits: last.logits,
    layers: (x, attend) =>
      shifted.reduce((rows, { stage, start }) => {
        return stage.layers(rows, (qkv, options) => {
          return attend(qkv, { ...options, layer: start + options.layer });
        });
      }, x),
  };
}

/** What ends a rank's turn: its part of a sum whose others are not there yet. */
class Awaited extends Error {}

/**
 * The ranks of a tensor-parallel group in one thread. Each computes up to a sum that is not complete,
 * and begins anew once it is: {@linkcode run} therefore calls what it is given once for each sum.
 */
export class SumInTurns {
  readonly #size: number;
  #sums: Tensor[] = [];
  #parts: Tensor[] = [];
  #at = 0;
  #isRunning = false;
  /** Sums of the last run. */
  count = 0;

  constructor(size: number) {
    this.#size = size;
  }

  /** What the slices' `sum` must be; between runs, where shapes alone count, each is its own sum. */
  readonly sum = (x: Tensor): Tensor => {
    if (!this.#isRunning) return x;
    const done = this.#sums[this.#at++];
    if (done) return done;
    this.#parts.push(x.eval());
    throw new Awaited();
  };

  /** What each rank comes to, all of them having met at every sum. */
  run<T>(compute: (rank: number) => T): T[] {
    this.#isRunning = true;
    try {
      return this.#turns(compute);
    } finally {
      this.#isRunning = false;
    }
  }

  #turns<T>(compute: (rank: number) => T): T[] {
    for (this.#sums = [];;) {
      this.#parts = [];
      const outcomes: T[] = [];
      for (let rank = 0; rank < this.#size; rank++) {
        this.#at = 0;
        try {
          outcomes.push(compute(rank));
        } catch (error) {
          if (!(error instanceof Awaited)) throw error;
        }
      }
      this.count = this.#sums.length;
      if (outcomes.length === this.#size) return outcomes;
      ok(this.#parts.length === this.#size, "all ranks come to the same sums");
      this.#sums.push(this.#parts.reduce((sum, part) => sum.add(part)).eval());
    }
  }
}
