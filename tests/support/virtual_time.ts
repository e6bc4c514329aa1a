import { setImmediate } from "node:timers/promises";
import type { Timer } from "../../net/memory_wire.ts";
import { Schedule } from "../sim/schedule.ts";

/** Time that goes by only when a test says so. */
export class VirtualTime implements Timer {
  readonly #schedule = new Schedule();

  get now(): number {
    return this.#schedule.now;
  }

  after(delayMs: number, action: () => void): () => void {
    let isWanted = true;
    this.#schedule.after(delayMs, () => isWanted && action());
    return () => isWanted = false;
  }

  /** Lets so much time go by; whatever can go on at a moment does so before the next. */
  async pass(durationMs: number): Promise<void> {
    const end = this.now + durationMs;
    do await setImmediate(); while (this.#schedule.step(end));
  }
}
