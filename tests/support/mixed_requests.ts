import type { TextGenerationPayload } from "../../core/task.ts";
import type { SamplingParams } from "../../core/sampling.ts";
import { Random } from "./random.ts";

/** What requests are made of. */
export interface RequestShape {
  /** Words of the system message that half of all requests share, one of a few. */
  readonly systemWords: number;
  /** Most words of a user's message. */
  readonly wordsMax: number;
  /** Most tokens of a long answer, and the share of those; others have a tenth of it at most. */
  readonly answerTokensMax: number;
  readonly longAnswerShare: number;
}

const WORDS =
  "river stone who wind over seven light and mountain sleeps under old the blue ship goes"
    .split(" ");

/** Texts at which an answer may end, some of which come often and some never. */
const STOPS = ["e", "th", "\n", " a", "river", ". ", "zq"];

const CLIENTS = ["ann", "bob", "eve"];

/** System messages that requests have in common. */
const SYSTEM_TEXTS = 3;

/** Tokens with a bias of their own, of ids that every vocabulary has. */
const BIASED_IDS = 300;

/** Requests of every kind, the same for a seed: short and long, greedy and drawn, plain and odd. */
export class MixedRequests {
  readonly #random: Random;
  readonly #shape: RequestShape;
  readonly #systems: readonly string[];

  constructor(random: Random, shape: RequestShape) {
    this.#random = random;
    this.#shape = shape;
    this.#systems = Array.from({ length: SYSTEM_TEXTS }, () => this.#words(shape.systemWords));
  }

  /** A new request; one that goes on from `earlier`, where that is given. */
  next(earlier?: { readonly payload: TextGenerationPayload; readonly text: string }) {
    const payload = this.#payload();
    if (!earlier) return payload;
    const said = { role: "assistant" as const, content: earlier.text };
    return { ...payload, messages: [...earlier.payload.messages, said, this.#question()] };
  }

  #payload(): TextGenerationPayload {
    const random = this.#random;
    const system = { role: "system" as const, content: random.pick(this.#systems) };
    return {
      messages: [...(this.#chance(0.5) ? [system] : []), this.#question()],
      sampling: { ...this.#drawing(), ...this.#penalties() },
      maxTokens: this.#answerTokens(),
      stop: this.#chance(0.2) ? [random.pick(STOPS), random.pick(STOPS)] : [],
      seed: String(random.below(1_000_000)),
      client: random.pick(CLIENTS),
      ...(this.#chance(0.6) ? { ignoreEos: true } : {}),
      ...(this.#chance(0.2) ? { usePrefixCache: false } : {}),
      ...(this.#chance(0.2) ? { topLogprobs: random.below(4) } : {}),
      ...(this.#chance(0.15) ? { logitBias: [this.#bias(), this.#bias()] } : {}),
    };
  }

  #question() {
    const isLong = this.#chance(0.3);
    const most = isLong ? this.#shape.wordsMax : Math.ceil(this.#shape.wordsMax / 3);
    return { role: "user" as const, content: this.#words(1 + this.#random.below(most)) };
  }

  #answerTokens(): number {
    const { answerTokensMax, longAnswerShare } = this.#shape;
    const most = this.#chance(longAnswerShare) ? answerTokensMax : Math.ceil(answerTokensMax / 10);
    return 1 + this.#random.below(most);
  }

  #drawing(): SamplingParams {
    if (this.#chance(0.5)) return { temperature: 0 };
    const random = this.#random;
    return {
      temperature: 0.5 + random.next(),
      ...(this.#chance(0.4) ? { topP: 0.5 + random.next() / 2 } : {}),
      ...(this.#chance(0.4) ? { topK: 1 + random.below(50) } : {}),
      ...(this.#chance(0.3) ? { minP: random.next() / 5 } : {}),
    };
  }

  #penalties(): SamplingParams {
    const random = this.#random;
    return {
      ...(this.#chance(0.2) ? { repetitionPenalty: 1 + random.next() } : {}),
      ...(this.#chance(0.1) ? { repetitionContextTokens: random.below(64) } : {}),
      ...(this.#chance(0.2) ? { presencePenalty: random.next() * 2 - 0.5 } : {}),
      ...(this.#chance(0.2) ? { frequencyPenalty: random.next() * 2 - 0.5 } : {}),
    };
  }

  #bias(): [number, number] {
    return [this.#random.below(BIASED_IDS), this.#random.below(41) - 20];
  }

  #words(count: number): string {
    return Array.from({ length: count }, () => this.#random.pick(WORDS)).join(" ");
  }

  #chance(share: number): boolean {
    return this.#random.next() < share;
  }
}
