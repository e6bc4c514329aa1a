import type { EngineCounters } from "../../core/engine_stats.ts";

/** What the engine knows at the time of its stats. */
export interface EngineNow {
  readonly at: number;
  readonly running: number;
  /** When each request that waits was submitted. */
  readonly waitingSince: readonly number[];
  readonly memory: EngineCounters["memory"];
}

/** What an engine has done since it was made. */
export class EngineTally {
  readonly #totals = {
    requests: 0,
    preemptions: 0,
    promptTokens: 0,
    cachedTokens: 0,
    generatedTokens: 0,
    steps: 0,
  };
  #batchSize = 0;

  /** A request was taken. */
  submitted(): void {
    this.#totals.requests++;
  }

  /** So many tokens of a request were in the prefix cache. */
  found(cachedTokens: number): void {
    this.#totals.promptTokens += cachedTokens;
    this.#totals.cachedTokens += cachedTokens;
  }

  /** A request gave up its memory. */
  preempted(): void {
    this.#totals.preemptions++;
  }

  /** A step was computed, for so many sequences, with so many tokens of prompts. */
  stepped(batchSize: number, promptTokens: number): void {
    this.#totals.steps++;
    this.#batchSize = batchSize;
    this.#totals.promptTokens += promptTokens;
  }

  /** Tokens were drawn. */
  generated(tokens: number): void {
    this.#totals.generatedTokens += tokens;
  }

  /** All of it. */
  counters({ at, running, waitingSince, memory }: EngineNow): EngineCounters {
    return {
      ...this.#totals,
      running,
      queued: waitingSince.length,
      longestWaitMilliseconds: waitingSince.length > 0 ? at - Math.min(...waitingSince) : 0,
      batchSize: running > 0 ? this.#batchSize : 0,
      memory,
    };
  }
}
