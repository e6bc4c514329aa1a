import type { State } from "../core/state.ts";

/** This node's copy of the cluster state, and who waits for it to change. */
export class Replica {
  #state: State;
  #branch: State | undefined;
  readonly #listeners = new Set<() => void>();

  constructor(state: State, branch?: State) {
    this.#state = state;
    this.#branch = branch;
  }

  get state(): State {
    return this.#state;
  }

  /** A state that gave way to it, until what was asked for there is merged. */
  get branch(): State | undefined {
    return this.#branch;
  }

  /** Takes a newer state and tells the listeners; the one it has already is no news. */
  set(state: State, branch?: State): void {
    if (state === this.#state && branch === this.#branch) return;
    this.#state = state;
    this.#branch = branch;
    for (const listener of [...this.#listeners]) listener();
  }

  /** Calls `listener` after each change, until the returned function is called. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}
