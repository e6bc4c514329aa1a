import type { EngineCounters } from "../core/engine_stats.ts";
import { AppError, toAppError } from "../core/errors.ts";
import type { TaskId } from "../core/ids.ts";
import { resolveSampling, type SamplingParams } from "../core/sampling.ts";
import { memoryCounters } from "../ffi/mod.ts";
import type { Decoder } from "./decoder.ts";
import type { Engine, EngineResponse, GenerationTask, TaskResponse } from "./engine.ts";
import type { Weights } from "./mlx/weights.ts";
import { promptTooLong, queueFull } from "./refusals.ts";
import type { ChatTemplate } from "./text/chat_template.ts";
import { Generation, type GenerationRequest, type Served } from "./text/generation.ts";
import { PrefillPace } from "./text/prefill_pace.ts";
import { TaskTrace, type Tracing } from "./text/task_trace.ts";
import type { TextTokenizer } from "./text/tokenizer.ts";

/** What a {@linkcode TextEngine} is made of; `TextBuilder` puts it together. */
export interface TextEngineParts {
  readonly vocabSize: number;
  /** Freed with the engine, before the weights. */
  readonly decoder: Decoder;
  /** Freed with the engine. */
  readonly weights: Weights;
  readonly tokenizer: TextTokenizer;
  readonly template: ChatTemplate | undefined;
  readonly eosIds: ReadonlySet<number>;
  /** Prompt and answer together. */
  readonly contextTokens: number;
  /** What holds for what a request leaves open, in this order. */
  readonly samplingDefaults: readonly (SamplingParams | undefined)[];
  /** Generations queued and running at once. */
  readonly requestsMax: number;
  readonly prefillChunkTokens: number;
  /** Memory that placement has reserved for keys and values. */
  readonly kvBudgetBytes: number;
  readonly now: () => number;
  /** Whether tasks tell where their time went; absent: no. */
  readonly tracing?: Tracing | undefined;
}

/** A request from its submission to its end. */
interface Run {
  readonly taskId: TaskId;
  readonly request: GenerationRequest;
  /** Begun when it is its turn, so that a queued request holds no memory. */
  generation: Generation | undefined;
  isCancelled: boolean;
  readonly submittedAt: number;
}

/** Characters for each token of the context up to which a prompt is read whole at once. */
const CHARS_PER_TOKEN_TRUSTED = 8;

/** Pieces by which a longer one is counted, and tokens that a cut may add. */
const PIECE_CHARS = 16_384;
const PIECE_SLACK_TOKENS = 16;

/** Tokens that the warm-up reads and generates. */
const WARMUP_TOKENS = 2;

/** Tokens of a second prompt, by which the pace of prefill is learnt, and the time that it may take. */
const PACE_TOKENS = 64;
const PACE_MS = 250;

/** Language models: first come, first served, one generation at a time. */
export class TextEngine implements Engine {
  readonly #parts: TextEngineParts;
  readonly #served: Served;
  readonly #queue: Run[] = [];
  readonly #totals = { requests: 0, promptTokens: 0, generatedTokens: 0, steps: 0 };
  /** All that is in memory before the first request. */
  readonly #weightBytes = memoryCounters().activeBytes;
  #batchSize = 0;

  constructor(parts: TextEngineParts) {
    this.#parts = parts;
    const { decoder, tokenizer, prefillChunkTokens, now } = parts;
    this.#served = { decoder, tokenizer, prefillChunkTokens, now, pace: new PrefillPace() };
  }

  /** Bytes of the caches of all generations that have begun. */
  get cacheBytes(): number {
    return this.#queue.reduce((sum, { generation }) => sum + (generation?.cacheBytes ?? 0), 0);
  }

  warmup(): void {
    const { now } = this.#parts;
    const startedAt = now();
    for (const length of [WARMUP_TOKENS, PACE_TOKENS]) {
      using generation = new Generation(this.#served, {
        promptIds: Array.from({ length }, () => 0),
        sampling: resolveSampling({ temperature: 0 }),
        seed: 0n,
        maxTokens: WARMUP_TOKENS,
        stop: [],
        eosIds: new Set(),
      });
      const isOver = () => length === PACE_TOKENS && now() - startedAt > PACE_MS;
      while (!isOver() && !generation.advance().some(({ type }) => type === "finished"));
    }
  }

  submit({ taskId, payload }: GenerationTask): { promptTokens: number } {
    const { requestsMax, tokenizer, contextTokens, samplingDefaults, eosIds, tracing } =
      this.#parts;
    if (this.#queue.length >= requestsMax) {
      throw queueFull(this.#queue.length, requestsMax);
    }
    const prompt = this.#template.render(payload.messages);
    requireNearlyShort(prompt, tokenizer, contextTokens);
    const promptIds = tokenizer.encode(prompt);
    const promptTokens = promptIds.length;
    requireRoom(promptTokens, contextTokens);
    requireKnownTokens(promptIds, this.#parts.vocabSize);
    const submittedAt = this.#parts.now();
    const request: GenerationRequest = {
      promptIds,
      sampling: resolveSampling(payload.sampling, ...samplingDefaults),
      seed: BigInt(payload.seed),
      maxTokens: Math.min(payload.maxTokens ?? Infinity, contextTokens - promptTokens),
      stop: payload.stop,
      eosIds,
      trace: tracing && new TaskTrace(tracing, submittedAt),
    };
    this.#queue.push({ taskId, request, generation: undefined, isCancelled: false, submittedAt });
    this.#totals.requests++;
    return { promptTokens };
  }

  get #template(): ChatTemplate {
    const { template } = this.#parts;
    if (template) return template;
    throw new AppError(
      "invalid_request",
      "Cannot build the prompt: the model has no chat template, one needed",
      {
        hint: "choose a version of the model made for chats: -Instruct or -Chat in its name",
      },
    );
  }

  hasWork(): boolean {
    return this.#queue.length > 0;
  }

  *step(): Generator<TaskResponse> {
    const cancelled = this.#queue.filter(({ isCancelled }) => isCancelled);
    for (const run of cancelled) this.#drop(run);
    for (const run of cancelled) {
      yield* this.#traced(run);
      yield [run.taskId, { type: "cancelled" }];
    }
    const [run] = this.#queue;
    this.#batchSize = run && cancelled.length === 0 ? 1 : 0;
    if (!run || cancelled.length > 0) return;
    const responses = this.#advance(run);
    if (responses.at(-1)?.type === "finished") this.#drop(run);
    for (const response of responses) {
      if (response.type === "finished") yield* this.#traced(run);
      yield [run.taskId, response];
    }
  }

  /** Where a task's time went, if that is recorded. */
  *#traced({ taskId, request: { trace } }: Run): Generator<TaskResponse> {
    if (trace) yield [taskId, { type: "traced", spans: trace.spans(this.#parts.now()) }];
  }

  /** A step of one request; its failure is its own, and the engine lives on. */
  #advance(run: Run): EngineResponse[] {
    try {
      const generation = run.generation ??= new Generation(this.#served, run.request);
      const { promptTokens, generatedTokens } = generation;
      const responses = generation.advance();
      this.#totals.steps++;
      this.#totals.promptTokens += generation.promptTokens - promptTokens;
      this.#totals.generatedTokens += generation.generatedTokens - generatedTokens;
      return responses;
    } catch (cause) {
      const error = toAppError(cause, "internal").toInfo();
      return [{ type: "chunk", chunk: { type: "Error", error } }, { type: "finished" }];
    }
  }

  #drop(run: Run): void {
    run.generation?.[Symbol.dispose]();
    this.#queue.splice(this.#queue.indexOf(run), 1);
  }

  cancel(taskId: TaskId): void {
    for (const run of this.#queue) if (run.taskId === taskId) run.isCancelled = true;
  }

  stats(): EngineCounters {
    const waiting = this.#queue.filter(({ generation }) => generation === undefined);
    const [first] = waiting;
    return {
      running: this.#queue.length - waiting.length,
      queued: waiting.length,
      longestWaitMilliseconds: first ? this.#parts.now() - first.submittedAt : 0,
      batchSize: this.#batchSize,
      preemptions: 0,
      cachedTokens: 0,
      ...this.#totals,
      memory: {
        weightBytes: this.#weightBytes,
        kvBytes: this.cacheBytes,
        prefixCacheBytes: 0,
        kvBudgetBytes: this.#parts.kvBudgetBytes,
      },
    };
  }

  close(): void {
    for (const run of [...this.#queue]) this.#drop(run);
    this.#parts.decoder[Symbol.dispose]();
    this.#parts.weights[Symbol.dispose]();
  }
}

/**
 * Refuses a prompt that is far too long by its first part, since all others wait while it is read.
 * Cutting it changes a few tokens at each cut, which the slack allows for.
 */
function requireNearlyShort(
  prompt: string,
  tokenizer: TextTokenizer,
  contextTokens: number,
): void {
  if (prompt.length <= CHARS_PER_TOKEN_TRUSTED * contextTokens) return;
  let tokens = 0;
  for (let at = 0; at < prompt.length; at += PIECE_CHARS) {
    tokens += tokenizer.encode(prompt.slice(at, at + PIECE_CHARS)).length - PIECE_SLACK_TOKENS;
    if (tokens >= contextTokens) throw promptTooLong(`over ${contextTokens}`, contextTokens);
  }
}

/** An answer needs room for one token at least. */
function requireRoom(promptTokens: number, contextTokens: number): void {
  if (promptTokens === 0) {
    throw new AppError("invalid_request", "Cannot answer: the prompt has no tokens, 1 needed", {
      hint: 'send a message with text, such as {"role":"user","content":"hi"}',
      param: "messages",
    });
  }
  if (promptTokens >= contextTokens) throw promptTooLong(promptTokens, contextTokens);
}

/** MLX does not check where a token's row lies: a foreign tokenizer would read anything. */
function requireKnownTokens(ids: readonly number[], vocabSize: number): void {
  const unknown = ids.find((id) => id >= vocabSize);
  if (unknown === undefined) return;
  throw new AppError(
    "invalid_request",
    `Cannot take the prompt: it has the token ${unknown}, one below ${vocabSize} needed`,
    { hint: "the tokenizer belongs to another model; fetch the model's files again" },
  );
}
