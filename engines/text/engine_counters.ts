import type { EngineStats } from "../../core/engine_stats.ts";

/** What the engine knows at the time of its stats. */
export interface EngineNow {
  readonly at: number;
  readonly running: number;
  /** When each request that waits was submitted. */
  readonly waitingSince: readonly number[];
  readonly memory: EngineStats["memory"];
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
  /** As of the stats before. */
  #told: { at: number; readTokens: number; generatedTokens: number };

  /** `at`: milliseconds on a steady clock. */
  constructor(at: number) {
    this.#told = { at, readTokens: 0, generatedTokens: 0 };
  }

  /** A request was taken. */
  submitted(promptTokens: number): void {
    this.#requests++;
    this.#promptTokens += promptTokens;
  }

  /** So many tokens of a prompt were in the prefix cache. */
  found(cachedTokens: number): void {
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

  /** All of it; rates are over the time since the last call. */
  stats({ at, running, waitingSince, memory }: EngineNow): EngineStats {
    const told = this.#told;
    const [readTokens, generatedTokens] = [this.#readTokens, this.#generatedTokens];
    this.#told = { at, readTokens, generatedTokens };
    const perSecond = (tokens: number) => at > told.at ? tokens * 1000 / (at - told.at) : 0;
    return {
      running,
      queued: waitingSince.length,
      longestWaitMilliseconds: waitingSince.length > 0 ? at - Math.min(...waitingSince) : 0,
      batchSize: running > 0 ? this.#batchSize : 0,
      requests: this.#requests,
      preemptions: this.#preemptions,
      promptTokens: this.#promptTokens,
      cachedTokens: this.#cachedTokens,
      generatedTokens,
      steps: this.#steps,
      promptTokensPerSecond: perSecond(readTokens - told.readTokens),
      generationTokensPerSecond: perSecond(generatedTokens - told.generatedTokens),
      memory,
    };
  }
}
