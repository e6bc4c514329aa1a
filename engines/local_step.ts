import { assert } from "../core/errors.ts";
import type { RowDraw, RowDrawn } from "../ffi/mod.ts";
import type { PendingStep, SequenceInput, StepOutput } from "./decoder.ts";

/** Rows of logits from which tokens are drawn. */
export interface DrawSource {
  /** The likeliest token; 0 where there is none, since all are NaN or -Infinity. */
  best(row: number): number;
  /** Draws from the rows that are named, in one call and on all threads. */
  sample(draws: readonly RowDraw[]): RowDrawn[];
}

/** Draws from rows of logits, each as if it were alone. */
export function drawRows(draws: readonly RowDraw[], source: DrawSource): RowDrawn[] {
  const drawn = draws.map((draw): RowDrawn | undefined => {
    const best = isPlain(draw) ? source.best(draw.row) : 0;
    // What has no largest element says 0 too, so that this one is looked at again.
    return best > 0 ? { id: best } : undefined;
  });
  const left = draws.filter((_, i) => !drawn[i]);
  const sampled = left.length > 0 ? source.sample(left) : [];
  let next = 0;
  return drawn.map((one) => {
    const outcome = one ?? sampled[next++];
    assert(outcome, "each draw has an outcome");
    return outcome;
  });
}

/** Whether the likeliest token is all that is asked for. */
function isPlain({ temperature, topLogprobs, adjustments }: RowDraw): boolean {
  return temperature === 0 && topLogprobs === undefined && adjustments.length === 0;
}

/** What sequences asked to be drawn, by their index; the rows are those that have logits. */
export function drawAll(
  inputs: readonly Pick<SequenceInput, "logitsCount" | "draw">[],
  source: DrawSource,
): StepOutput["drawn"] {
  let rows = 0;
  const draws: RowDraw[] = [];
  const indices: number[] = [];
  inputs.forEach(({ logitsCount, draw }, index) => {
    rows += logitsCount;
    if (!draw) return;
    assert(logitsCount > 0, "a token is drawn where there are logits");
    draws.push({ ...draw, row: rows - 1 });
    indices.push(index);
  });
  const drawn = drawRows(draws, source);
  return (sequence) => {
    const outcome = drawn[indices.indexOf(sequence)];
    assert(outcome, "what was drawn is asked of those that wanted it");
    return outcome;
  };
}

/** A step that was computed as it was launched. */
export function doneStep(output: StepOutput): PendingStep {
  return { isDone: true, wait: () => true, collect: () => output };
}
