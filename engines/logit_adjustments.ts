import type { ResolvedSampling } from "../core/sampling.ts";
import { ADJUSTMENT_NUMBERS } from "../ffi/mod.ts";

/** What tokens' logits are changed by. */
interface Changes {
  readonly sampling: ResolvedSampling;
  readonly promptIds: readonly number[];
  readonly logitBias?: readonly (readonly [id: number, bias: number])[];
  readonly bannedIds?: ReadonlySet<number>;
}

/** What is known of a token whose logit is or was changed. */
interface Entry {
  /** Where its numbers begin. */
  readonly at: number;
  readonly bias: number;
  /** Times in the repetition penalty's window. */
  inWindow: number;
  /** Times among the generated tokens. */
  generated: number;
}

/** Tokens that there is room for at first. */
const ROOM_AT_FIRST = 64;

/**
 * What the penalties, the bias and the bans make of each token's logit, kept up to date at a cost
 * that does not grow with the answer.
 */
export class LogitAdjustments {
  readonly #sampling: ResolvedSampling;
  readonly #entries = new Map<number, Entry>();
  /** Prompt and answer as far as the window reaches back; empty without a repetition penalty. */
  readonly #history: number[];
  #numbers = new Float64Array(ROOM_AT_FIRST * ADJUSTMENT_NUMBERS);

  constructor({ sampling, promptIds, logitBias = [], bannedIds = new Set() }: Changes) {
    this.#sampling = sampling;
    const biases = new Map<number, number>();
    for (const [id, bias] of logitBias) biases.set(id, bias + (biases.get(id) ?? 0));
    for (const id of bannedIds) biases.set(id, -Infinity);
    for (const [id, bias] of biases) this.#add(id, bias);
    const { repetitionContextTokens } = sampling;
    this.#history = this.#repeats() ? promptIds.slice(-repetitionContextTokens) : [];
    for (const id of this.#history) this.#count(id, "inWindow", 1);
  }

  /** `ADJUSTMENT_NUMBERS` for each token, valid until the next note(). */
  get numbers(): Float64Array<ArrayBuffer> {
    return this.#numbers.subarray(0, this.#entries.size * ADJUSTMENT_NUMBERS);
  }

  /** A token was generated. */
  note(id: number): void {
    const { presencePenalty, frequencyPenalty, repetitionContextTokens } = this.#sampling;
    if (presencePenalty !== 0 || frequencyPenalty !== 0) this.#count(id, "generated", 1);
    if (!this.#repeats()) return;
    this.#history.push(id);
    this.#count(id, "inWindow", 1);
    const left = this.#history.at(-1 - repetitionContextTokens);
    if (left !== undefined) this.#count(left, "inWindow", -1);
  }

  #repeats(): boolean {
    const { repetitionPenalty, repetitionContextTokens } = this.#sampling;
    return repetitionPenalty !== 1 && repetitionContextTokens > 0;
  }

  #count(id: number, what: "inWindow" | "generated", by: number): void {
    const entry = this.#entries.get(id) ?? this.#add(id, 0);
    entry[what] += by;
    this.#write(id, entry);
  }

  #add(id: number, bias: number): Entry {
    const entry = { at: this.#entries.size * ADJUSTMENT_NUMBERS, bias, inWindow: 0, generated: 0 };
    this.#entries.set(id, entry);
    if (entry.at + ADJUSTMENT_NUMBERS > this.#numbers.length) {
      const more = new Float64Array(2 * this.#numbers.length);
      more.set(this.#numbers);
      this.#numbers = more;
    }
    this.#write(id, entry);
    return entry;
  }

  #write(id: number, { at, bias, inWindow, generated }: Entry): void {
    const { presencePenalty, frequencyPenalty } = this.#sampling;
    const penalty = generated > 0 ? presencePenalty + generated * frequencyPenalty : 0;
    this.#numbers.set([id, inWindow > 0 ? 1 : 0, bias - penalty], at);
  }
}
