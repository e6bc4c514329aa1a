import { AppError } from "../core/errors.ts";
import type { ResolvedSampling } from "../core/sampling.ts";
import type { RatedToken } from "../ffi/mod.ts";
import type { TokenDraw } from "./decoder.ts";
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
 * Says how the tokens of one generation are drawn, one after the other. Number i depends on the
 * logits, the seed and i alone, whatever else is in the batch: a counter takes the place of a state
 * (decision 13).
 */
export class Sampler {
  readonly #request: SamplerRequest;
  readonly #adjustments: LogitAdjustments;
  #drawn = 0;

  constructor(request: SamplerRequest) {
    this.#request = request;
    this.#adjustments = new LogitAdjustments(request);
  }

  /** How the next token is drawn: the same until one is accepted, and valid until then. */
  next(): TokenDraw {
    const { sampling, seed, topLogprobs } = this.#request;
    const { temperature, topP, topK, minP, repetitionPenalty } = sampling;
    return {
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

  /**
   * Takes what was drawn so, and notes it for the penalties.
   * @throws {AppError} `internal` when no token could be drawn.
   */
  accept(drawn: Drawn): Drawn {
    if (drawn.id >= 0) {
      this.#drawn++;
      this.#adjustments.note(drawn.id);
      return drawn;
    }
    throw new AppError(
      "internal",
      `Cannot draw token ${this.#drawn + 1} of the answer: ` +
        "none of the model's logits is a number, one needed",
      { hint: "ask something else; if that fails too, fetch the model's files again" },
    );
  }
}
