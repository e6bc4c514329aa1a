/** Tokens drawn from logits by a kernel of our own, the same on all devices. */
import { check, native } from "./bind.ts";
import type { Tensor } from "./tensor.ts";

/** Most alternatives that are told beside a token. */
export const TOP_LOGPROBS_MAX = 20;

/** Numbers that an adjustment of one token's logit takes: its id, 1 if it is repeated, a shift. */
export const ADJUSTMENT_NUMBERS = 3;

/** One draw from one row of logits. */
export interface RowDraw {
  readonly row: number;
  /** 64 bits; the same seed and index give the same choice. */
  readonly seed: bigint;
  readonly index: number;
  /** 0 takes the likeliest token. */
  readonly temperature: number;
  readonly topP: number;
  readonly topK: number;
  readonly minP: number;
  /** For tokens that are marked as repeated. */
  readonly repetitionPenalty: number;
  /** For tokens all different, `ADJUSTMENT_NUMBERS` each; a shift of -Infinity bans the token. */
  readonly adjustments: Float64Array<ArrayBuffer>;
  /** Alternatives to tell; absent: no log-probabilities at all. */
  readonly topLogprobs?: number;
}

/** A token and the logarithm of its probability. */
export interface RatedToken {
  readonly id: number;
  readonly logprob: number;
}

/** What came of a draw. */
export interface RowDrawn {
  /** -1 where nothing can be drawn: all logits are -Infinity or NaN. */
  readonly id: number;
  /** Of the logits as they were given. */
  readonly logprob?: number;
  /** The likeliest tokens, descending, equal ones by id. */
  readonly top?: readonly RatedToken[];
}

/** Numbers of a draw on its way to C, and on its way back; `shim_sample.cpp` has the same order. */
const DRAW_NUMBERS = 11;
const OUTCOME_NUMBERS = 3 + 2 * TOP_LOGPROBS_MAX;

const NONE = new Float64Array(0);

/**
 * Draws from rows of logits, float32 [rows, width], or those that a plan put out last.
 * @throws {NativeError} when a row is not there.
 */
export function sampleRows(
  source: { readonly logits: Tensor } | { readonly plan: number },
  draws: readonly RowDraw[],
): RowDrawn[] {
  const [plan, logits] = "plan" in source ? [source.plan, 0] : [0, source.logits.handle];
  const numbers = Float64Array.from(draws.flatMap(numbersOf));
  const adjustments = draws.length === 1 ? draws[0]?.adjustments ?? NONE : joined(draws);
  const count = adjustments.length / ADJUSTMENT_NUMBERS;
  const out = new Float64Array(draws.length * OUTCOME_NUMBERS);
  const { shim_sample } = native();
  check("shim_sample", shim_sample(plan, logits, numbers, draws.length, adjustments, count, out));
  return draws.map((draw, i) => drawnOf(draw, out.subarray(i * OUTCOME_NUMBERS)));
}

function numbersOf(draw: RowDraw): number[] {
  const seed = BigInt.asUintN(64, draw.seed);
  const numbers = [
    draw.row,
    Number(seed >> 32n),
    Number(seed & 0xffff_ffffn),
    draw.index,
    draw.temperature,
    draw.topP,
    draw.topK,
    draw.minP,
    draw.repetitionPenalty,
    draw.topLogprobs ?? -1,
    draw.adjustments.length / ADJUSTMENT_NUMBERS,
  ] as const satisfies { readonly length: typeof DRAW_NUMBERS };
  return [...numbers];
}

function joined(draws: readonly RowDraw[]): Float64Array<ArrayBuffer> {
  const all = new Float64Array(draws.reduce((sum, draw) => sum + draw.adjustments.length, 0));
  let at = 0;
  for (const { adjustments } of draws) {
    all.set(adjustments, at);
    at += adjustments.length;
  }
  return all;
}

function drawnOf({ topLogprobs }: RowDraw, out: Float64Array): RowDrawn {
  const [id = -1, logprob = 0, topCount = 0] = out;
  if (id < 0 || topLogprobs === undefined) return { id };
  const top = Array.from({ length: topCount }, (_, i) => {
    const [id = -1, logprob = 0] = out.subarray(3 + 2 * i);
    return { id, logprob };
  });
  return { id, logprob, top };
}
