/**
 * Most bytes that are on their way from other ranks to the first, and as many to them: steps wait
 * behind them.
 */
export const BYTES_UNDER_WAY_MAX = 4 * 1024 * 1024;

/**
 * What all prompts of an engine have on their way between its ranks, in one direction: those that
 * others read never keep back those that it reads. Whoever has bytes there also waits for them, so
 * that there is room again for the others.
 */
export class BytesUnderWay {
  #bytes = 0;

  /** Whether so many more may set out; alone, any number may. */
  hasRoom(bytes: number): boolean {
    return this.#bytes === 0 || this.#bytes + bytes <= BYTES_UNDER_WAY_MAX;
  }

  setOut(bytes: number): void {
    this.#bytes += bytes;
  }

  /** They are there, or nobody waits for them any more. */
  arrived(bytes: number): void {
    this.#bytes -= bytes;
  }
}
