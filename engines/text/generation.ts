import type { Chunk, GenerationStats, PrefixCacheHit } from "../../core/chunk.ts";
import type { ResolvedSampling } from "../../core/sampling.ts";
import { clearCache, memoryCounters } from "../../ffi/mod.ts";
import type { KernelTimes, SequenceCache } from "../decoder.ts";
import { type Drawn, Sampler } from "../sampler.ts";
import { Answer, type AnswerTokenizer } from "./answer.ts";

/** What one generation is asked for. */
export interface GenerationRequest {
  readonly promptIds: readonly number[];
  readonly sampling: ResolvedSampling;
  readonly seed: bigint;
  readonly maxTokens: number;
  readonly stop: readonly string[];
  /** Tokens after which the answer is complete. */
  readonly eosIds: ReadonlySet<number>;
  /** Never draws those tokens, so that the answer has `maxTokens`. */
  readonly ignoreEos?: boolean;
  readonly logitBias?: readonly (readonly [number, number])[] | undefined;
  readonly topLogprobs?: number | undefined;
}

/** What a step did for a generation. */
export interface StepResult {
  /** The next token; undefined: more of the prompt is to come. */
  readonly drawn: Drawn | undefined;
  /** Positions that the cache had with this step; others may have been launched since. */
  readonly offset: number;
  /** Milliseconds that the step took, and when it ended. */
  readonly ms: number;
  readonly endedAt: number;
  readonly kernelTimes: KernelTimes | undefined;
}

/** Positions that another instance computed, and how long the request waited for them. */
export interface ReadElsewhere {
  readonly from: number;
  readonly to: number;
  readonly ms: number;
}

/** One answer in the making: its tokens, its cache while it has one, and what it took. */
export class Generation implements Disposable {
  readonly #request: GenerationRequest;
  /** Draws its tokens. */
  readonly sampler: Sampler;
  readonly #answer: Answer;
  /** Of the prompt and the answer. */
  readonly #ids: number[];
  readonly #submittedAt: number;
  #cache: SequenceCache | undefined;
  #cachedTokens: number | undefined;
  /** What another instance read of the prompt. */
  #elsewhere: ReadElsewhere = { from: 0, to: 0, ms: 0 };
  #queueMs = 0;
  #prefillMs = 0;
  /** Tokens computed in that time; after a preemption, some of them again. */
  #prefillTokens = 0;
  /** Positions of the cache after the last step, and the most of the prompt that ever were. */
  #offset = 0;
  #processedTokens = 0;
  #first: { at: number; kernelTimes: KernelTimes | undefined } | undefined;

  constructor(
    request: GenerationRequest,
    { tokenizer, submittedAt }: { tokenizer: AnswerTokenizer; submittedAt: number },
  ) {
    const { sampling, seed, promptIds, logitBias, topLogprobs, eosIds, ignoreEos } = request;
    this.#request = request;
    this.#submittedAt = submittedAt;
    this.#ids = [...promptIds];
    this.sampler = new Sampler({
      ...{ sampling, seed, promptIds },
      ...(logitBias ? { logitBias } : {}),
      ...(topLogprobs === undefined ? {} : { topLogprobs }),
      ...(ignoreEos ? { bannedIds: eosIds } : {}),
    });
    this.#answer = new Answer(tokenizer, {
      ...request,
      eosIds: ignoreEos ? new Set() : eosIds,
    });
  }

  /** Tokens whose keys and values are in no cache yet. */
  get pendingTokens(): number {
    return this.#ids.length - (this.#cache?.offset ?? 0);
  }

  get cache(): SequenceCache | undefined {
    return this.#cache;
  }

  /** Positions that the steps which are over have filled: the cache has those of later ones, too. */
  get computedPositions(): number {
    return this.#offset;
  }

  /** Whether its next step is one of its first tokens, which may be long. */
  get isPrefilling(): boolean {
    return this.pendingTokens > 1 || this.#first === undefined;
  }

  /** Tokens whose keys and values the cache holds. */
  get cachedIds(): readonly number[] {
    return this.#ids.slice(0, this.#cache?.offset ?? 0);
  }

  /** All tokens so far. */
  get ids(): readonly number[] {
    return this.#ids;
  }

  /**
   * Begins, or goes on after a preemption, with a cache that may hold a part of its tokens. Whether
   * it begins.
   */
  start(cache: SequenceCache, at: number): boolean {
    this.#cache = cache;
    this.#offset = cache.offset;
    if (this.#cachedTokens !== undefined) return false;
    const { from, to, ms } = this.#elsewhere;
    // What was read for this request was in nobody's cache, though it comes by way of this one's.
    const read = Math.max(0, Math.min(cache.offset, to) - from);
    this.#cachedTokens = cache.offset - read;
    this.#prefillTokens += read;
    this.#prefillMs += ms;
    this.#queueMs = at - this.#submittedAt - ms;
    return true;
  }

  /** Another instance has read a part of its prompt, before it starts; its client was told so. */
  readElsewhere(part: ReadElsewhere): void {
    this.#elsewhere = part;
    this.#processedTokens = Math.max(this.#processedTokens, part.to);
  }

  /** Prompt tokens that came from the prefix cache, but for those that were read for it. */
  get cachedTokens(): number {
    return this.#cachedTokens ?? 0;
  }

  /** Gives its cache up; its tokens are computed again when it starts again. */
  suspend(): void {
    this.#cache?.[Symbol.dispose]();
    this.#cache = undefined;
  }

  /** The next `count` tokens to run. */
  next(count: number): number[] {
    const from = this.#cache?.offset ?? 0;
    return this.#ids.slice(from, from + count);
  }

  /** What a step means for the client; the last chunk is a `Finish`. */
  ran(step: StepResult): Chunk[] {
    const isPrefill = this.#first === undefined;
    if (isPrefill) {
      this.#prefillMs += step.ms;
      this.#prefillTokens += step.offset - this.#offset;
    }
    this.#offset = step.offset;
    const chunks: Chunk[] = isPrefill ? [this.#progress()] : [];
    return step.drawn ? [...chunks, ...this.#take(step.drawn, step)] : chunks;
  }

  #progress(): Chunk {
    const totalTokens = this.#request.promptIds.length;
    // What is read again after a preemption is no news.
    const processedTokens = Math.max(this.#processedTokens, Math.min(totalTokens, this.#offset));
    this.#processedTokens = processedTokens;
    return { type: "PrefillProgress", processedTokens, totalTokens };
  }

  #take(drawn: Drawn, step: StepResult): Chunk[] {
    this.#ids.push(drawn.id);
    this.#first ??= { at: step.endedAt, kernelTimes: step.kernelTimes };
    const { chunks, finishReason } = this.#answer.take(drawn);
    if (finishReason === undefined) return [...chunks];
    const promptTokens = this.#request.promptIds.length;
    const completionTokens = this.#answer.tokens;
    const usage = { promptTokens, completionTokens, cachedTokens: this.cachedTokens };
    return [...chunks, { type: "Finish", finishReason, usage, stats: this.#stats(step) }];
  }

  #stats({ endedAt, kernelTimes }: StepResult): GenerationStats {
    const promptTokens = this.#request.promptIds.length;
    const steps = this.#answer.tokens - 1;
    const milliseconds = endedAt - (this.#first?.at ?? endedAt);
    const kernelMilliseconds = differences(this.#first?.kernelTimes, kernelTimes);
    return {
      promptTokensPerSecond: perSecond(this.#prefillTokens, this.#prefillMs),
      generationTokensPerSecond: perSecond(steps, milliseconds),
      peakMemoryBytes: memoryCounters().peakBytes,
      queueMilliseconds: this.#queueMs,
      prefixCacheHit: hitOf(this.cachedTokens, promptTokens),
      ...(kernelMilliseconds ? { decode: { steps, milliseconds, kernelMilliseconds } } : {}),
    };
  }

  [Symbol.dispose](): void {
    this.suspend();
    clearCache();
  }
}

/** The last token of a prompt is always computed: the answer begins with its logits. */
function hitOf(cachedTokens: number, promptTokens: number): PrefixCacheHit {
  if (cachedTokens === 0) return "none";
  return cachedTokens >= promptTokens - 1 ? "exact" : "partial";
}

/** Time by kind of operation since `before`; they served all who were in the steps. */
function differences(
  before: KernelTimes | undefined,
  now: KernelTimes | undefined,
): Record<string, number> | undefined {
  if (!before || !now) return undefined;
  return Object.fromEntries(
    Object.entries(now).map(([kind, ms]) => [kind, ms - (before[kind] ?? 0)]),
  );
}

function perSecond(tokens: number, ms: number): number {
  return ms > 0 ? tokens * 1000 / ms : 0;
}
