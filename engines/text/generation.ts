import type { FinishReason, GenerationStats } from "../../core/chunk.ts";
import type { ResolvedSampling } from "../../core/sampling.ts";
import { clearCache, memoryCounters, resetPeakMemory, Scope } from "../../ffi/mod.ts";
import type { Decoder, KernelTimes, SequenceCache } from "../decoder.ts";
import type { EngineResponse } from "../engine.ts";
import { sample, samplingKey } from "../sampler.ts";
import { Detokenizer } from "./detokenizer.ts";
import type { PrefillPace } from "./prefill_pace.ts";
import { StopMatcher } from "./stop_matcher.ts";
import type { TaskTrace } from "./task_trace.ts";
import type { TextTokenizer } from "./tokenizer.ts";

/** What all generations of an engine share. */
export interface Served {
  readonly decoder: Decoder;
  readonly tokenizer: Pick<TextTokenizer, "bytesOf" | "trimsLeadingSpace">;
  readonly pace: PrefillPace;
  /** Most prompt tokens in one step. */
  readonly prefillChunkTokens: number;
  /** Milliseconds on a steady clock. */
  readonly now: () => number;
}

/** What one generation is asked for. */
export interface GenerationRequest {
  readonly promptIds: readonly number[];
  readonly sampling: ResolvedSampling;
  readonly seed: bigint;
  readonly maxTokens: number;
  readonly stop: readonly string[];
  /** Tokens after which the answer is complete. */
  readonly eosIds: ReadonlySet<number>;
  /** Is told of each step, where tracing is on. */
  readonly trace?: TaskTrace | undefined;
}

/** One answer in the making. Its memory is its cache, held from the first step to its disposal. */
export class Generation implements Disposable {
  readonly #served: Served;
  readonly #request: GenerationRequest;
  readonly #cache: SequenceCache;
  readonly #detokenizer: Detokenizer;
  readonly #stops: StopMatcher;
  #generated = 0;
  #lastId = -1;
  #prefillMs = 0;
  #firstAt = 0;
  #kernelsAtFirst: KernelTimes | undefined;
  #lastAt = 0;

  constructor(served: Served, request: GenerationRequest) {
    this.#served = served;
    this.#request = request;
    this.#cache = served.decoder.makeCache();
    this.#detokenizer = new Detokenizer(served.tokenizer);
    this.#stops = new StopMatcher(request.stop);
  }

  /** Bytes of its cache. */
  get cacheBytes(): number {
    return this.#cache.bytes;
  }

  /** Tokens of the prompt in its cache. */
  get promptTokens(): number {
    return Math.min(this.#cache.offset, this.#request.promptIds.length);
  }

  /** Tokens that it has generated. */
  get generatedTokens(): number {
    return this.#generated;
  }

  /** One chunk of the prompt, or one token; ends with `finished` in the last step. */
  advance(): EngineResponse[] {
    return this.#cache.offset < this.#request.promptIds.length ? this.#prefill() : this.#decode();
  }

  #prefill(): EngineResponse[] {
    const { promptIds } = this.#request;
    const { pace, now } = this.#served;
    const from = this.#cache.offset;
    if (from === 0) resetPeakMemory();
    const limit = Math.min(promptIds.length - from, this.#served.prefillChunkTokens);
    const to = from + pace.next(limit);
    const startedAt = now();
    const token = this.#run(promptIds.slice(from, to), to === promptIds.length);
    const endedAt = now();
    const ms = endedAt - startedAt;
    this.#request.trace?.prefilled(to - from, { from: startedAt, to: endedAt });
    pace.measured(to - from, ms);
    this.#prefillMs += ms;
    const progress: EngineResponse = {
      type: "chunk",
      chunk: { type: "PrefillProgress", processedTokens: to, totalTokens: promptIds.length },
    };
    if (token === undefined) return [progress];
    return [progress, ...this.#take(token)];
  }

  #decode(): EngineResponse[] {
    const { trace } = this.#request;
    const startedAt = trace ? this.#served.now() : 0;
    const token = this.#run([this.#lastId], true);
    if (token === undefined) return [];
    const responses = this.#take(token);
    trace?.decoded({ from: startedAt, to: this.#lastAt });
    return responses;
  }

  /** Runs tokens through the model; draws the next one if `draws`. All else is freed. */
  #run(ids: readonly number[], draws: boolean): number | undefined {
    using _scope = new Scope();
    const input = { cache: this.#cache, ids, logitsCount: draws ? 1 : 0 };
    const output = this.#served.decoder.run([input]);
    if (!draws) return undefined;
    const { sampling, seed } = this.#request;
    if (sampling.temperature === 0) return output.best(0);
    return sample(output.logits(0), sampling, () => samplingKey(seed, this.#generated)).item();
  }

  /** What a new token means for the client. */
  #take(id: number): EngineResponse[] {
    this.#lastId = id;
    this.#lastAt = this.#served.now();
    if (this.#generated === 0) {
      this.#firstAt = this.#lastAt;
      this.#kernelsAtFirst = this.#served.decoder.kernelTimes();
    }
    this.#generated++;
    if (this.#request.eosIds.has(id)) return this.#finish("stop");
    const { text, isStopped } = this.#stops.add(this.#detokenizer.add(id));
    const said = this.#say(text);
    if (isStopped) return [...said, this.#finishChunk("stop"), { type: "finished" }];
    return this.#generated < this.#request.maxTokens ? said : [...said, ...this.#finish("length")];
  }

  /** Flushes what was held back, which may yet complete a stop string. */
  #finish(reason: FinishReason): EngineResponse[] {
    const { text, isStopped } = this.#stops.add(this.#detokenizer.finish());
    const said = this.#say(isStopped ? text : text + this.#stops.finish());
    return [...said, this.#finishChunk(isStopped ? "stop" : reason), { type: "finished" }];
  }

  #say(text: string): EngineResponse[] {
    if (text === "") return [];
    return [{ type: "chunk", chunk: { type: "Token", text, tokenId: this.#lastId } }];
  }

  #finishChunk(finishReason: FinishReason): EngineResponse {
    const promptTokens = this.#request.promptIds.length;
    const decodeMs = this.#lastAt - this.#firstAt;
    return {
      type: "chunk",
      chunk: {
        type: "Finish",
        finishReason,
        usage: { promptTokens, completionTokens: this.#generated, cachedTokens: 0 },
        stats: {
          promptTokensPerSecond: perSecond(promptTokens, this.#prefillMs),
          generationTokensPerSecond: perSecond(this.#generated - 1, decodeMs),
          peakMemoryBytes: memoryCounters().peakBytes,
          ...this.#decodeStats(decodeMs),
        },
      },
    };
  }

  #decodeStats(milliseconds: number): Pick<GenerationStats, "decode"> {
    const [first, now] = [this.#kernelsAtFirst, this.#served.decoder.kernelTimes()];
    if (!first || !now) return {};
    const kernelMilliseconds = Object.fromEntries(
      Object.entries(now).map(([kind, ms]) => [kind, ms - (first[kind] ?? 0)]),
    );
    return { decode: { steps: this.#generated - 1, milliseconds, kernelMilliseconds } };
  }

  [Symbol.dispose](): void {
    this.#cache[Symbol.dispose]();
    clearCache();
  }
}

function perSecond(tokens: number, ms: number): number {
  return ms > 0 ? tokens * 1000 / ms : 0;
}
