import type { Chunk, FinishReason, TokenLogprob, TokenLogprobs } from "../../core/chunk.ts";
import type { Drawn } from "../sampler.ts";
import { Detokenizer } from "./detokenizer.ts";
import { StopMatcher } from "./stop_matcher.ts";
import type { TextTokenizer } from "./tokenizer.ts";

/** What an {@linkcode Answer} needs of its tokenizer. */
export type AnswerTokenizer = Pick<TextTokenizer, "bytesOf" | "trimsLeadingSpace">;

/** What decides where an answer ends. */
export interface AnswerLimits {
  readonly maxTokens: number;
  readonly stop: readonly string[];
  /** Tokens after which the answer is complete. */
  readonly eosIds: ReadonlySet<number>;
}

/** What a token made of an answer. */
export interface Said {
  readonly chunks: readonly Chunk[];
  /** Set when the answer is complete. */
  readonly finishReason?: FinishReason;
}

/** A token whose log-probabilities wait until its text is let through. */
interface Held {
  readonly logprobs: TokenLogprobs;
  /** Characters of the answer before it, and up to its end. */
  readonly from: number;
  readonly to: number;
}

/** Tokens to the chunks that a client sees: text, log-probabilities, and when it is enough. */
export class Answer {
  readonly #tokenizer: AnswerTokenizer;
  readonly #limits: AnswerLimits;
  readonly #detokenizer: Detokenizer;
  readonly #stops: StopMatcher;
  readonly #held: Held[] = [];
  /** Characters that the tokens made, and those of them that were let through. */
  #decoded = 0;
  #said = 0;
  #tokens = 0;
  #lastId = 0;

  constructor(tokenizer: AnswerTokenizer, limits: AnswerLimits) {
    this.#tokenizer = tokenizer;
    this.#limits = limits;
    this.#detokenizer = new Detokenizer(tokenizer);
    this.#stops = new StopMatcher(limits.stop);
  }

  /** Tokens so far, the one that ended it included. */
  get tokens(): number {
    return this.#tokens;
  }

  /** What the next token means for the client. */
  take(drawn: Drawn): Said {
    this.#lastId = drawn.id;
    this.#tokens++;
    if (this.#limits.eosIds.has(drawn.id)) return this.#finish("stop");
    const piece = this.#detokenizer.add(drawn.id);
    this.#hold(drawn, piece.length);
    const { text, isStopped } = this.#stops.add(piece);
    if (isStopped) return { chunks: this.#say(text, "stopped"), finishReason: "stop" };
    const said = this.#say(text, "goesOn");
    if (this.#tokens < this.#limits.maxTokens) return { chunks: said };
    const { chunks, finishReason = "length" } = this.#finish("length");
    return { chunks: [...said, ...chunks], finishReason };
  }

  /** Flushes what was held back, which may yet complete a stop string. */
  #finish(reason: FinishReason): Said {
    const rest = this.#detokenizer.finish();
    this.#decoded += rest.length;
    const { text, isStopped } = this.#stops.add(rest);
    if (isStopped) return { chunks: this.#say(text, "stopped"), finishReason: "stop" };
    return { chunks: this.#say(text + this.#stops.finish(), "complete"), finishReason: reason };
  }

  #hold({ id, logprob, top = [] }: Drawn, length: number): void {
    const from = this.#decoded;
    this.#decoded += length;
    if (logprob === undefined) return;
    const logprobs = {
      ...this.#told(id, logprob),
      top: top.map((other) => this.#told(other.id, other.logprob)),
    };
    this.#held.push({ logprobs, from, to: this.#decoded });
  }

  #told(tokenId: number, logprob: number): TokenLogprob {
    return { tokenId, bytes: [...this.#tokenizer.bytesOf(tokenId)], logprob: Math.min(0, logprob) };
  }

  #say(text: string, state: "goesOn" | "stopped" | "complete"): Chunk[] {
    this.#said += text.length;
    const logprobs = this.#released(state);
    if (text === "" && logprobs.length === 0) return [];
    const token = { type: "Token" as const, text, tokenId: this.#lastId };
    return [logprobs.length > 0 ? { ...token, logprobs } : token];
  }

  /** Those of tokens that are let through whole; in the end also those that were cut, or are bytes. */
  #released(state: "goesOn" | "stopped" | "complete"): TokenLogprobs[] {
    const isOut = ({ from, to }: Held) => {
      if (state === "complete") return true;
      return state === "stopped" ? from < this.#said : to > from && to <= this.#said;
    };
    let count = 0;
    // Tokens without text of their own go with the one that completes the character.
    this.#held.forEach((held, index) => {
      if (isOut(held)) count = index + 1;
    });
    const released = this.#held.splice(0, count);
    if (state !== "goesOn") this.#held.length = 0;
    return released.map(({ logprobs }) => logprobs);
  }
}

/** Whether a chunk is the last one of its answer. */
export function isFinish({ type }: Chunk): boolean {
  return type === "Finish";
}
