import type { ChatEvent } from "../../api/client_chat.ts";
import type { Clock, Question } from "../../bench/measure.ts";

/** Tokens of the script's chat template. */
export const TEMPLATE_TOKENS = 10;

/** An endpoint whose every step takes a set time of a clock that only it moves. */
export class ScriptedEndpoint {
  readonly asked: Question[] = [];
  readonly clock: Clock = { now: () => this.#nowMs };
  /** Time that a prompt token and an answer token take. */
  prefillMs = 2;
  decodeMs = 10;
  /** Throws, or shortens the answer of this question, by its place among all. */
  before: (question: Question, place: number) => number | void = () => {};
  #nowMs = 1_000;

  readonly ask = async function* (
    this: ScriptedEndpoint,
    question: Question,
  ): AsyncGenerator<ChatEvent> {
    const place = this.asked.push(question) - 1;
    await Promise.resolve();
    const completionTokens = this.before(question, place) ?? question.maxTokens;
    const promptTokens = TEMPLATE_TOKENS + question.prompt.split(" ").length;
    this.#nowMs += promptTokens * this.prefillMs;
    for (let token = 0; token < completionTokens; token++) {
      if (token > 0) this.#nowMs += this.decodeMs;
      yield { type: "text", text: "x" };
    }
    const totalTokens = promptTokens + completionTokens;
    yield {
      type: "finish",
      modelId: "m",
      finishReason: completionTokens < question.maxTokens ? "stop" : "length",
      usage: { promptTokens, completionTokens, totalTokens, cachedTokens: 0 },
      tokensPerSecond: undefined,
    };
  }.bind(this);
}
