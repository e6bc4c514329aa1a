import { AppError, assert } from "../../core/errors.ts";
import { fromArray, type RowDrawn, type Tensor } from "../../ffi/mod.ts";
import { type PendingStep, type SequenceInput, StepLost, type StepOutput } from "../decoder.ts";
import { groupCache } from "./cache_log.ts";
import { LOOK_MS, ROUND_MS_MAX, type Rounds } from "./rounds.ts";
import type { FrameInput, OutcomeHeader } from "./step_frame.ts";

/** A step as it was sent. */
export interface SentStep {
  readonly serial: number;
  readonly inputs: readonly SequenceInput[];
  readonly sequences: readonly FrameInput[];
  /** How long it may take; as long as a round may if left out. */
  readonly msMax?: number;
}

/** A step on its way through the ranks of a pipeline. */
export class GroupStep implements PendingStep {
  readonly #rounds: Rounds;
  readonly #sent: SentStep;
  readonly #time: { readonly sentAt: number; readonly msMax: number };

  constructor(rounds: Rounds, sent: SentStep) {
    this.#rounds = rounds;
    this.#sent = sent;
    this.#time = { sentAt: rounds.now(), msMax: sent.msMax ?? ROUND_MS_MAX };
  }

  get isDone(): boolean {
    return this.wait(0);
  }

  wait(ms: number): boolean {
    return this.#rounds.wait(this.#sent.serial, ms, this.#time);
  }

  collect(): StepOutput {
    const { serial, inputs, sequences } = this.#sent;
    while (!this.wait(LOOK_MS));
    const { header: { drawn, failure }, rows } = this.#rounds.take(serial);
    if (!failure) return shown(inputs, { drawn, rows });
    // Nobody knows what is in them on which rank.
    inputs.forEach(({ cache }, i) => {
      const was = sequences[i]?.cache;
      if (was !== undefined && groupCache(cache).isKnownAs(was)) cache[Symbol.dispose]();
    });
    if (failure.isLost) throw new StepLost(failure.error.message);
    throw AppError.from(failure.error);
  }
}

/** What the last rank says of a step, as the decoder of a whole model would. */
function shown(
  inputs: readonly SequenceInput[],
  { drawn, rows }: { drawn: OutcomeHeader["drawn"]; rows: Float32Array<ArrayBuffer> },
): StepOutput {
  const kept = inputs.flatMap(({ logitsCount, draw }) =>
    Array.from({ length: logitsCount }, () => draw === undefined)
  );
  const count = kept.filter((isKept) => isKept).length;
  const width = count > 0 ? rows.length / count : 0;
  return {
    drawn: (sequence): RowDrawn => {
      const one = drawn[sequence];
      assert(one, "what was drawn is asked of those that wanted it");
      return one;
    },
    logits: (index): Tensor => {
      assert(kept[index], "logits are shown of those for whom no token is drawn");
      const at = kept.slice(0, index).filter((isKept) => isKept).length * width;
      return fromArray(rows.slice(at, at + width));
    },
  };
}
