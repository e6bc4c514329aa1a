import type { TaskId } from "../core/ids.ts";

/** How long a command may go unacknowledged. */
export interface AckLimit {
  readonly ms: number;
  readonly onReached: () => void;
}

interface Awaited {
  readonly sentAt: number;
  readonly timer: ReturnType<typeof setTimeout> | undefined;
}

/** What a runner was told and has not acknowledged yet, the oldest first. */
export class Acknowledgements {
  readonly #awaited = new Map<TaskId, Awaited>();

  /** A command was sent. No later one prolongs its limit. */
  expect(taskId: TaskId, limit?: AckLimit): void {
    const timer = limit && setTimeout(limit.onReached, limit.ms);
    this.#awaited.set(taskId, { sentAt: performance.now(), timer });
  }

  /** A command was acknowledged. */
  came(taskId: TaskId): void {
    clearTimeout(this.#awaited.get(taskId)?.timer);
    this.#awaited.delete(taskId);
  }

  /** Nothing will come any more. */
  drop(): void {
    for (const taskId of this.#awaited.keys()) this.came(taskId);
  }

  /** Whether none is awaited. */
  get isEmpty(): boolean {
    return this.#awaited.size === 0;
  }

  /** How long the oldest has been awaited; 0 when none is. */
  get oldestMs(): number {
    const [oldest] = this.#awaited.values();
    return oldest ? performance.now() - oldest.sentAt : 0;
  }
}
