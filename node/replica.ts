import { apply } from "../core/apply.ts";
import { AppError } from "../core/errors.ts";
import type { IndexedEvent } from "../core/events.ts";
import type { State } from "../core/state.ts";

/** This node's copy of the cluster state, and who waits for it to change. */
export class Replica {
  #state: State;
  readonly #listeners = new Set<() => void>();

  constructor(state: State) {
    this.#state = state;
  }

  get state(): State {
    return this.#state;
  }

  /** Folds events in and tells the listeners once. */
  apply(events: readonly IndexedEvent[]): void {
    for (const event of events) this.#state = apply(this.#state, event);
    if (events.length > 0) { for (const listener of [...this.#listeners]) listener(); }
  }

  /** Calls `listener` after each change, until the returned function is called. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /**
   * Resolves once event `idx` is applied here.
   * @throws {AppError} `timed_out` after `timeoutMs`.
   */
  async reached(idx: number, timeoutMs: number): Promise<void> {
    if (this.#state.lastEventAppliedIdx >= idx) return;
    await new Promise<void>((resolve, reject) => {
      const settle = () => {
        clearTimeout(timer);
        stop();
      };
      const timer = setTimeout(() => {
        settle();
        const found = this.#state.lastEventAppliedIdx;
        const message = `Event ${idx} did not arrive within ${timeoutMs} ms: at ${found}`;
        const hint = "exo status shows whether the node is well; ask again once it is";
        reject(new AppError("timed_out", message, { hint }));
      }, timeoutMs);
      const stop = this.onChange(() => {
        if (this.#state.lastEventAppliedIdx < idx) return;
        settle();
        resolve();
      });
    });
  }
}
