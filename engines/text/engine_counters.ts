import type { EngineCounts } from "../../core/engine_stats.ts";

/** What the engine knows at the time of its stats. */
export interface EngineNow {
  readonly at: number;
  readonly running: number;
  /** When each request that waits was submitted. */
  readonly waitingSince: readonly number[];
  readonly memory: EngineCounts["memory"];
  readonly group?: EngineCounts["group"];
}

/** What an engine has done since it was made. */
export class EngineCounters {
  #requests = 0;
  #preemptions = 0;
  #promptTokens = 0;
  #cachedTokens = 0;
  #readTokens = 0;
  #generatedTokens = 0;
  #steps = 0;
  #batchSize = 0;

  /** A request was taken. */
  submitted(): void {
    this.#requests++;
  }

  /** A request has begun, and so many tokens of its prompt were in the prefix cache. */
  begun(promptTokens: number, cachedTokens: number): void {
    this.#promptTokens += promptTokens;
    this.#cachedTokens += cachedTokens;
  }

  /** A request gave up its memory. */
  preempted(): void {
    this.#preemptions++;
  }

  /** A step was computed, for so many sequences, with so many tokens of prompts. */
  stepped(batchSize: number, readTokens: number): void {
    this.#steps++;
    this.#batchSize = batchSize;
    this.#readTokens += readTokens;
  }

  /** Tokens were drawn. */
  generated(tokens: number): void {
    this.#generatedTokens += tokens;
  }

  /** All of it. */
  counts({ at, running, waitingSince, memory, group }: EngineNow): EngineCounts {
    return {
      running,
      queued: waitingSince.length,
      longestWaitMilliseconds: waitingSince.length > 0 ? at - Math.min(...waitingSince) : 0,
      batchSize: running > 0 ? this.#batchSize : 0,
      requests: this.#requests,
      preemptions: this.#preemptions,
      promptTokens: this.#promptTokens,
      cachedTokens: this.#cachedTokens,
      prefillTokens: this.#readTokens,
      generatedTokens: this.#generatedTokens,
      steps: this.#steps,
      memory,
      ...(group ? { group } : {}),
    };
  }
}
