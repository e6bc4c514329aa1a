/** Virtual time, a list of things to do for each of its milliseconds. */
export class Calendar {
  now = 0;
  readonly #days = new Map<number, (() => void)[]>();

  /** Does something after so many milliseconds; what is due at once comes in the order given. */
  after(delayMs: number, action: () => void): void {
    const day = this.now + Math.max(0, Math.round(delayMs));
    const actions = this.#days.get(day);
    if (actions) actions.push(action);
    else this.#days.set(day, [action]);
  }

  /** Lets so much time go by. */
  pass(durationMs: number): void {
    const end = this.now + durationMs;
    for (;; this.now++) {
      const actions = this.#days.get(this.now) ?? [];
      // More may be added to the day while it lasts.
      for (const action of actions) action();
      this.#days.delete(this.now);
      if (this.now >= end) return;
    }
  }
}
