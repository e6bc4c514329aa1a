import { AppError } from "../core/errors.ts";
import type { ResolvedSampling } from "../core/sampling.ts";
import type { RatedToken, RowDraw } from "../ffi/mod.ts";
import type { StepOutput } from "./decoder.ts";
import { LogitAdjustments } from "./logit_adjustments.ts";

/** How the tokens of one generation are to be drawn. */
export interface SamplerRequest {
  readonly sampling: ResolvedSampling;
  /** Of 64 bits. */
  readonly seed: bigint;
  /** For the repetition penalty's window. */
  readonly promptIds: readonly number[];
  /** Added to the logits of tokens. */
  readonly logitBias?: readonly (readonly [id: number, bias: number])[];
  /** Never drawn. */
  readonly bannedIds?: ReadonlySet<number>;
  /** Alternatives to tell beside each token, at most 20; absent: no log-probabilities. */
  readonly topLogprobs?: number;
}

/** A token, and on demand what the model itself says of it and of the likeliest ones. */
export interface Drawn {
  readonly id: number;
  readonly logprob?: number;
  /** Descending, equal ones by id. */
  readonly top?: readonly RatedToken[];
}

/**
 * Draws the tokens of one generation, one after the other. Number i depends on the logits, the seed
 * and i alone, whatever else is in the batch: a counter takes the place of a state (decision 13).
 */
export class Sampler {
  readonly #request: SamplerRequest;
  readonly #adjustments: LogitAdjustments;
  #drawn = 0;

  constructor(request: SamplerRequest) {
    this.#request = request;
    this.#adjustments = new LogitAdjustments(request);
  }

  /**
   * Draws the next token from a row of a step's logits, and notes it for the penalties.
   * @throws {AppError} `internal` when no token can be drawn.
   */
  draw(output: StepOutput, row: number): Drawn {
    const best = this.#isPlain() ? output.best(row) : 0;
    // What has no largest element says 0 too, so that this one is looked at again.
    if (best > 0) return this.#note({ id: best });
    const [drawn] = output.sample([this.#drawOf(row)]);
    return this.#accept(drawn);
  }

  /**
   * What `draw` gives for row i and sampler i, all rows in one call and on all threads. A row that
   * fails gives its error, and leaves the others alone.
   */
  static drawAll(samplers: readonly Sampler[], output: StepOutput): (Drawn | AppError)[] {
    const drawn = new Map<Sampler, Drawn>();
    const left: { readonly sampler: Sampler; readonly draw: RowDraw }[] = [];
    samplers.forEach((sampler, row) => {
      const best = sampler.#isPlain() ? output.best(row) : 0;
      if (best > 0) drawn.set(sampler, { id: best });
      else left.push({ sampler, draw: sampler.#drawOf(row) });
    });
    const outcomes = left.length > 0 ? output.sample(left.map(({ draw }) => draw)) : [];
    left.forEach(({ sampler }, i) => {
      const outcome = outcomes[i];
      if (outcome) drawn.set(sampler, outcome);
    });
    return samplers.map((sampler) => {
      try {
        return sampler.#accept(drawn.get(sampler));
      } catch (error) {
        if (error instanceof AppError) return error;
        throw error;
      }
    });
  }

  /** Whether the likeliest token is all that is asked for. */
  #isPlain(): boolean {
    const { sampling, topLogprobs } = this.#request;
    const isAdjusted = this.#adjustments.numbers.length > 0;
    return sampling.temperature === 0 && topLogprobs === undefined && !isAdjusted;
  }

  #drawOf(row: number): RowDraw {
    const { sampling, seed, topLogprobs } = this.#request;
    const { temperature, topP, topK, minP, repetitionPenalty } = sampling;
    return {
      row,
      seed,
      index: this.#drawn,
      temperature,
      topP,
      topK,
      minP,
      repetitionPenalty,
      adjustments: this.#adjustments.numbers,
      ...(topLogprobs === undefined ? {} : { topLogprobs }),
    };
  }

  #accept(drawn: Drawn | undefined): Drawn {
    if (drawn && drawn.id >= 0) return this.#note(drawn);
    throw new AppError(
      "internal",
      `Cannot draw token ${this.#drawn + 1} of the answer: ` +
        "none of the model's logits is a number, one needed",
      { hint: "ask something else; if that fails too, fetch the model's files again" },
    );
  }

  #note(drawn: Drawn): Drawn {
    this.#drawn++;
    this.#adjustments.note(drawn.id);
    return drawn;
  }
}
