import type { FinishReason } from "../../core/chunk.ts";
import type { ResolvedSampling } from "../../core/sampling.ts";
import {
  clearCache,
  evalAll,
  fromArray,
  memoryCounters,
  resetPeakMemory,
  Scope,
  type Tensor,
} from "../../ffi/mod.ts";
import type { EngineResponse } from "../engine.ts";
import { KV_BLOCK_TOKENS, type KvCache } from "../kv_cache.ts";
import type { TextModel } from "../models/text_model.ts";
import { sample, samplingKey } from "../sampler.ts";
import { Detokenizer } from "./detokenizer.ts";
import type { PrefillPace } from "./prefill_pace.ts";
import { StopMatcher } from "./stop_matcher.ts";
import type { TextTokenizer } from "./tokenizer.ts";

/** What all generations of an engine share. */
export interface Served {
  readonly model: TextModel;
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
}

/** One answer in the making. Its memory is its cache, held from the first step to its disposal. */
export class Generation implements Disposable {
  readonly #served: Served;
  readonly #request: GenerationRequest;
  readonly #cache: KvCache;
  readonly #detokenizer: Detokenizer;
  readonly #stops: StopMatcher;
  #generated = 0;
  #lastId = -1;
  #prefillMs = 0;
  #firstAt = 0;
  #lastAt = 0;

  constructor(served: Served, request: GenerationRequest) {
    this.#served = served;
    this.#request = request;
    this.#cache = served.model.makeCache();
    this.#detokenizer = new Detokenizer(served.tokenizer);
    this.#stops = new StopMatcher(request.stop);
  }

  /** Bytes of its cache. */
  get cacheBytes(): number {
    return this.#cache.bytes;
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
    const ms = now() - startedAt;
    pace.measured(to - from, ms);
    this.#prefillMs += ms;
    const progress: EngineResponse = {
      type: "chunk",
      chunk: { type: "PrefillProgress", processedTokens: to, totalTokens: promptIds.length },
    };
    if (token === undefined) return [progress];
    clearCache(); // The buffers of prefill are too large for decoding.
    return [progress, ...this.#take(token)];
  }

  #decode(): EngineResponse[] {
    const token = this.#run([this.#lastId], true);
    // Attention grows with each token: buffers of sizes that do not come again pile up.
    if (this.#generated % KV_BLOCK_TOKENS === 0) clearCache();
    return token === undefined ? [] : this.#take(token);
  }

  /** Runs tokens through the model; draws the next one if `draws`. All else is freed. */
  #run(ids: readonly number[], draws: boolean): number | undefined {
    using _scope = new Scope();
    const { model } = this.#served;
    const input = fromArray(Int32Array.from(ids), [1, ids.length]); // [1, L]
    const hidden = model.hidden(input, this.#cache); // [1, L, D]
    if (!draws) {
      evalAll(this.#cache.arrays);
      return undefined;
    }
    return this.#draw(model.logits(lastPosition(hidden))).item();
  }

  /** logits [1, 1, V] to a token. */
  #draw(logits: Tensor): Tensor {
    const { sampling, seed } = this.#request;
    return sample(logits.reshape(-1), sampling, () => samplingKey(seed, this.#generated));
  }

  /** What a new token means for the client. */
  #take(id: number): EngineResponse[] {
    this.#lastId = id;
    this.#lastAt = this.#served.now();
    if (this.#generated === 0) this.#firstAt = this.#lastAt;
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
        },
      },
    };
  }

  [Symbol.dispose](): void {
    this.#cache[Symbol.dispose]();
    clearCache();
  }
}

/** The last position of hidden states [1, L, D], as [1, 1, D]. */
function lastPosition(hidden: Tensor): Tensor {
  const [, L = 1, D = 1] = hidden.shape;
  return L === 1 ? hidden : hidden.slice([0, L - 1, 0], [1, L, D]);
}

function perSecond(tokens: number, ms: number): number {
  return ms > 0 ? tokens * 1000 / ms : 0;
}
