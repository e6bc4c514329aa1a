import type { RunnerCommand } from "../core/frames.ts";
import type { TaskId } from "../core/ids.ts";

/** A command of these types. */
export type CommandOf<T extends RunnerCommand["type"]> = Extract<RunnerCommand, { type: T }>;

/** Commands that end something, for which nothing else that waits is a reason to wait. */
export type EndingCommand = CommandOf<"CancelTask" | "Shutdown">;

/** Commands that a runner has been given and not yet taken up, in order. */
export class CommandQueue {
  readonly #waiting: RunnerCommand[] = [];
  #closed = false;
  #isNudged = false;
  #wake: (() => void) | undefined;
  readonly #ending = Promise.withResolvers<void>();

  push(command: RunnerCommand): void {
    this.#waiting.push(command);
    if (command.type === "Shutdown") this.#ending.resolve();
    this.#wake?.();
  }

  /** Ends the present `arrival`, or the next: something else has come up. */
  nudge(): void {
    this.#isNudged = true;
    this.#wake?.();
  }

  /** No more commands will come: the node is gone. */
  close(): void {
    this.#closed = true;
    this.#ending.resolve();
    this.#wake?.();
  }

  /** Resolves once `isEnding`: for who waits for something else. */
  get ending(): Promise<void> {
    return this.#ending.promise;
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
      await this.arrival();
    }
  }

  /** Waits until there is a command, nobody is left to give one, or somebody nudges. */
  async arrival(): Promise<void> {
    while (this.#waiting.length === 0 && !this.#closed && !this.#isNudged) {
      await new Promise<void>((resolve) => this.#wake = resolve);
      this.#wake = undefined;
    }
    this.#isNudged = false;
  }

  /** Commands that wait. */
  get size(): number {
    return this.#waiting.length;
  }

  /** Takes the first command that ends something out of the queue, wherever it stands. */
  takeEnding(): EndingCommand | undefined {
    const at = this.#waiting.findIndex(({ type }) => type === "CancelTask" || type === "Shutdown");
    return at < 0 ? undefined : this.#waiting.splice(at, 1)[0] as EndingCommand;
  }

  /** Takes what asks for this task out of the queue: once, or as often as it was sent. */
  takeSubmits(taskId: TaskId): CommandOf<"TextGeneration">[] {
    const taken: CommandOf<"TextGeneration">[] = [];
    for (let at = this.#waiting.length - 1; at >= 0; at--) {
      const command = this.#waiting[at];
      if (command?.type !== "TextGeneration" || command.taskId !== taskId) continue;
      this.#waiting.splice(at, 1);
      taken.unshift(command);
    }
    return taken;
  }
}
