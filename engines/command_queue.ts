import type { RunnerCommand } from "../core/frames.ts";

/** Commands that a runner has been given and not yet taken up, in order. */
export class CommandQueue {
  readonly #waiting: RunnerCommand[] = [];
  #closed = false;
  #wake: (() => void) | undefined;

  push(command: RunnerCommand): void {
    this.#waiting.push(command);
    this.#wake?.();
  }

  /** No more commands will come: the node is gone. */
  close(): void {
    this.#closed = true;
    this.#wake?.();
  }

  /** Whether a Shutdown waits, or nobody is left to give one. */
  get isEnding(): boolean {
    return this.#closed || this.#waiting.some(({ type }) => type === "Shutdown");
  }

  /** The next command, if one waits. */
  poll(): RunnerCommand | "closed" | undefined {
    return this.#waiting.shift() ?? (this.#closed ? "closed" : undefined);
  }

  /** The next command; waits for it. */
  async next(): Promise<RunnerCommand | "closed"> {
    while (true) {
      const command = this.poll();
      if (command) return command;
      await new Promise<void>((resolve) => this.#wake = resolve);
      this.#wake = undefined;
    }
  }
}
