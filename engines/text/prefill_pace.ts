/** Longest that one step may take, so that a cancel is answered in time (design, Cancel). */
export const STEP_MS_MAX = 250;

/** Share of the step that a chunk is planned to fill; the rest is for noise. */
const STEP_SHARE = 0.9;

/**
 * Time that a step is planned to take in which others wait for their next token: long enough that
 * prompts are read at nearly full speed, short enough that a stream does not stutter.
 */
const MIXED_STEP_MS = 100;

/** Tokens of the first chunk, before anything is measured: 0.2 s on a slow CPU. */
const FIRST_CHUNK_TOKENS = 2;

/** Weight of the newest measurement against those before it. */
const NEWEST_SHARE = 0.5;

/** How many prompt tokens fit into a step, learnt from those before it. */
export class PrefillPace {
  #msPerToken: number | undefined;
  #tokensMax = FIRST_CHUNK_TOKENS;

  /** Size of the next chunk: at least 1, at most `limit`, at most double the largest so far. */
  next(limit: number): number {
    return this.#within(STEP_MS_MAX * STEP_SHARE, limit);
  }

  /** The same for a step in which others wait for their next token. */
  nextBesideDecode(limit: number): number {
    return this.#within(MIXED_STEP_MS, limit);
  }

  #within(ms: number, limit: number): number {
    const fitting = this.#msPerToken === undefined
      ? FIRST_CHUNK_TOKENS
      : Math.floor(ms / this.#msPerToken);
    return Math.max(1, Math.min(fitting, this.#tokensMax, limit));
  }

  /** How fast prompts are read; undefined before anything is measured. */
  get tokensPerSecond(): number | undefined {
    return this.#msPerToken === undefined ? undefined : 1000 / this.#msPerToken;
  }

  /** Takes note of what a chunk took. */
  measured(tokens: number, ms: number): void {
    const newest = Math.max(ms, Number.MIN_VALUE) / tokens;
    const before = this.#msPerToken ?? newest;
    this.#msPerToken = before + NEWEST_SHARE * (newest - before);
    this.#tokensMax = Math.max(this.#tokensMax, 2 * tokens);
  }
}
