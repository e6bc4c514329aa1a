import type { ChatEvent, ChatUsage } from "../api/client_chat.ts";
import type { GenerationStats } from "../core/chunk.ts";
import { AppError, type ErrorCode, type ErrorInfo, toAppError } from "../core/errors.ts";
import { type PromptSize, promptText, sizePrompt } from "./prompt.ts";

/** What is measured: one cell for each prompt length, answer length and concurrency. */
export interface BenchSettings {
  /** Prompt and answer lengths, in tokens. */
  readonly lengths: readonly Lengths[];
  readonly concurrency: readonly number[];
  readonly repeat: number;
  readonly warmup: number;
}

/** Tokens of a prompt and of its answer. */
export interface Lengths {
  readonly pp: number;
  readonly tg: number;
}

/** The endpoint as the measuring loop sees it: one question, its answer as it is made. */
export type Ask = (question: Question) => AsyncIterable<ChatEvent>;

/** One user message at temperature 0. */
export interface Question {
  readonly prompt: string;
  readonly maxTokens: number;
}

/** A monotonic time in milliseconds. */
export interface Clock {
  now(): number;
}

/** A request of a cell. `index` tells those apart that were sent at once. */
export interface RunKey extends Lengths {
  readonly concurrency: number;
  readonly repeat: number;
  readonly index: number;
}

/** An answer, timed from the moment at which its batch was sent. */
export interface Answered {
  readonly promptTokens: number;
  readonly cachedTokens: number;
  readonly completionTokens: number;
  readonly finishReason: string;
  /** Where the engine's time of decoding went, where it tells. */
  readonly decode?: GenerationStats["decode"] | undefined;
  /** When each piece of text came. */
  readonly piecesMs: readonly number[];
  readonly endToEndMs: number;
}

/** One request and what became of it. */
export type Run = RunKey & ({ readonly answer: Answered } | { readonly error: ErrorInfo });

/** What was measured until the end, or until `stop`. */
export interface Measured {
  readonly sizes: readonly PromptSize[];
  readonly runs: readonly Run[];
  /** Why nothing more could be measured. */
  readonly stop: AppError | undefined;
}

/** What the loop says while it goes on. */
export interface Progress {
  readonly label: string;
  readonly done: number;
  readonly total: number;
}

/** After these the instance is waited for. */
const LOST: ReadonlySet<ErrorCode> = new Set(["runner_failed", "node_lost"]);

/** After these no further request can succeed. */
const FINAL: ReadonlySet<ErrorCode> = new Set([
  "cancelled",
  "unauthorized",
  "forbidden",
  "model_not_found",
  "instance_not_found",
  "instance_removed",
  "not_ready",
  "unsupported_parameter",
]);

/** Batches in a row that find nobody at the address before the loop gives up. */
const UNREACHABLE_MAX = 2;

/**
 * Measures all cells in order: lengths, then concurrency, then repeats. Prompts whose size is among
 * `sizes` are taken as they are; the others are sized first. Never rejects.
 */
export async function measure(
  settings: BenchSettings,
  { sizes: known = [], ...world }: World & { readonly sizes?: readonly PromptSize[] },
): Promise<Measured> {
  const bench = new Bench(settings, world);
  for (const size of known) bench.sizes.set(size.askedTokens, size);
  let stop: AppError | undefined;
  try {
    await bench.run();
  } catch (error) {
    stop = toAppError(error);
  }
  const sizes = [...bench.sizes.values()].flatMap((size) => size instanceof AppError ? [] : [size]);
  return { sizes, runs: bench.runs, stop };
}

/** What the loop works with. */
interface World {
  readonly ask: Ask;
  readonly clock: Clock;
  /** Called when a runner failed, before the next question; its error ends the bench. */
  readonly recover?: () => Promise<void>;
  readonly onProgress?: (progress: Progress) => void;
}

class Bench {
  readonly runs: Run[] = [];
  readonly sizes = new Map<number, PromptSize | AppError>();
  readonly #settings: BenchSettings;
  readonly #ask: Ask;
  readonly #clock: Clock;
  readonly #recover: () => Promise<void>;
  readonly #onProgress: (progress: Progress) => void;
  /** Of the next prompt: no two are the same. */
  #serial = 0;
  #unreachable = 0;

  constructor(
    settings: BenchSettings,
    { ask, clock, recover = () => Promise.resolve(), onProgress = () => {} }: World,
  ) {
    this.#settings = settings;
    this.#ask = ask;
    this.#clock = clock;
    this.#recover = recover;
    this.#onProgress = onProgress;
  }

  async run(): Promise<void> {
    const { lengths, concurrency, repeat } = this.#settings;
    await this.#warmUp();
    for (const { pp, tg } of lengths) {
      for (const parallel of concurrency) {
        for (let turn = 0; turn < repeat; turn++) {
          await this.#batch({ pp, tg, concurrency: parallel, repeat: turn });
        }
      }
    }
  }

  /** Runs whose figures nobody wants; a failure shows again in those that count. */
  async #warmUp(): Promise<void> {
    const { lengths: [first], warmup } = this.#settings;
    if (!first) return;
    for (let done = 0; done < warmup; done++) {
      const size = await this.#sizeOf(first.pp);
      if (size instanceof AppError) return;
      this.#onProgress({ label: "Warming up", done, total: warmup });
      const outcome = await this.#request(size, first.tg, this.#clock.now());
      await this.#goOnAfter([outcome]);
    }
  }

  async #batch(key: Omit<RunKey, "index">): Promise<void> {
    const { pp, tg, concurrency, repeat } = key;
    const size = await this.#sizeOf(pp);
    const label = `Measuring pp ${pp}, tg ${tg}, ${concurrency} at once`;
    this.#onProgress({ label, done: repeat, total: this.#settings.repeat });
    const indices = Array.from({ length: concurrency }, (_, index) => index);
    const startedAt = this.#clock.now();
    const outcomes = await Promise.all(
      indices.map((): Promise<Answered | AppError> | AppError =>
        size instanceof AppError ? size : this.#request(size, tg, startedAt)
      ),
    );
    for (const [index, outcome] of outcomes.entries()) {
      if (outcome instanceof AppError && outcome.code === "cancelled") continue;
      const told = outcome instanceof AppError ? { error: outcome.toInfo() } : { answer: outcome };
      this.runs.push({ ...key, index, ...told });
    }
    await this.#goOnAfter(outcomes);
  }

  /** @throws {AppError} when what was answered says that nothing more can be. */
  async #goOnAfter(outcomes: readonly (Answered | AppError)[]): Promise<void> {
    const errors = outcomes.filter((outcome) => outcome instanceof AppError);
    const final = errors.find(({ code }) => FINAL.has(code));
    if (final) throw final;
    const nobody = errors.filter(({ code }) => code === "node_unreachable");
    this.#unreachable = nobody.length === outcomes.length ? this.#unreachable + 1 : 0;
    if (nobody[0] && this.#unreachable >= UNREACHABLE_MAX) throw nobody[0];
    if (errors.some(({ code }) => LOST.has(code))) await this.#recover();
  }

  /** Found once for each size. @throws {AppError} what ends the bench. */
  async #sizeOf(pp: number): Promise<PromptSize | AppError> {
    const known = this.sizes.get(pp);
    if (known) return known;
    let questions = 0;
    const count = (words: number) => {
      this.#onProgress({ label: `Sizing a prompt of ${pp} tokens`, done: questions++, total: 0 });
      return this.#count(words);
    };
    const size = await sizePrompt(pp, count).catch((error) => toAppError(error));
    this.sizes.set(pp, size);
    if (!(size instanceof AppError)) return size;
    if (FINAL.has(size.code) || size.code === "node_unreachable") throw size;
    return size;
  }

  async #count(words: number): Promise<number> {
    const { usage } = await this.#answer(promptText(words, this.#serial++), 1);
    return usage.promptTokens;
  }

  async #answer(prompt: string, maxTokens: number, onText: () => void = () => {}) {
    for await (const event of this.#ask({ prompt, maxTokens })) {
      if (event.type === "text") onText();
      if (event.type !== "finish") continue;
      const { finishReason, decode } = event;
      return { finishReason, decode, usage: neededUsage(event.usage) };
    }
    throw new AppError("node_unreachable", "The answer ended before it was complete");
  }

  async #request(
    { words }: PromptSize,
    maxTokens: number,
    startedAt: number,
  ): Promise<Answered | AppError> {
    const piecesMs: number[] = [];
    const elapsedMs = () => this.#clock.now() - startedAt;
    try {
      const prompt = promptText(words, this.#serial++);
      const { finishReason, usage, decode } = await this.#answer(
        prompt,
        maxTokens,
        () => piecesMs.push(elapsedMs()),
      );
      const endToEndMs = elapsedMs();
      if (piecesMs.length === 0) throw withoutText(usage);
      const { promptTokens, cachedTokens, completionTokens } = usage;
      const tokens = { promptTokens, cachedTokens, completionTokens };
      return { ...tokens, finishReason, ...(decode ? { decode } : {}), piecesMs, endToEndMs };
    } catch (error) {
      return toAppError(error);
    }
  }
}

function neededUsage(usage: ChatUsage | undefined): ChatUsage {
  if (usage) return usage;
  throw new AppError(
    "unsupported_parameter",
    "Cannot count tokens: the endpoint's stream has no usage, usage.prompt_tokens needed",
    { hint: "bench an endpoint that knows stream_options.include_usage" },
  );
}

function withoutText({ completionTokens }: ChatUsage): AppError {
  return new AppError(
    "internal",
    `Cannot time an answer of ${completionTokens} tokens: it has no text, some needed`,
    { hint: "ask for a longer answer with --tg, or another prompt length with --pp" },
  );
}
