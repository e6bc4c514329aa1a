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

/** Peers of which account is kept in one place. */
const KEYS_MAX = 4_096;

/** A limit for each of many: beyond `KEYS_MAX` the one that came first begins anew. */
export class RateLimits<Key> {
  readonly #limit: { perSecond: number; burst: number };
  readonly #limits = new Map<Key, RateLimit>();

  constructor(limit: { perSecond: number; burst: number }) {
    this.#limit = limit;
  }

  /** Whether one more of `key` may pass now; `now` in milliseconds. */
  take(key: Key, now: number): boolean {
    let limit = this.#limits.get(key);
    if (!limit) {
      const [first] = this.#limits.keys();
      if (first !== undefined && this.#limits.size >= KEYS_MAX) this.#limits.delete(first);
      limit = new RateLimit(this.#limit, now);
      this.#limits.set(key, limit);
    }
    return limit.take(now);
  }
}
