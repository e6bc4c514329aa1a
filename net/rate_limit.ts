/** Lets so many things through in a second, and `burst` at once (a token bucket). */
export class RateLimit {
  readonly #perSecond: number;
  readonly #burst: number;
  #tokens: number;
  #at: number;

  /** `now` in milliseconds, as in {@linkcode take}. */
  constructor(limit: { perSecond: number; burst: number }, now: number) {
    this.#perSecond = limit.perSecond;
    this.#burst = limit.burst;
    this.#tokens = limit.burst;
    this.#at = now;
  }

  /** Whether one more may pass now. */
  take(now: number): boolean {
    const earned = (now - this.#at) * this.#perSecond / 1_000;
    this.#tokens = Math.min(this.#burst, this.#tokens + Math.max(0, earned));
    this.#at = now;
    if (this.#tokens < 1) return false;
    this.#tokens--;
    return true;
  }
}
