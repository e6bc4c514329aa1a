import { VirtualTime } from "./virtual_time.ts";

/** The clock and the timers of this process as a test lets them go, until it is disposed of. */
export class FakeTime implements Disposable {
  readonly #time = new VirtualTime();
  readonly #real = {
    now: performance.now,
    setInterval: globalThis.setInterval,
    clearInterval: globalThis.clearInterval,
    setTimeout: globalThis.setTimeout,
    clearTimeout: globalThis.clearTimeout,
  };
  readonly #stops = new Map<number, () => void>();
  #nextId = 1;

  constructor() {
    performance.now = () => this.#time.now;
    const clear = (id?: unknown) => {
      this.#stops.get(Number(id))?.();
      this.#stops.delete(Number(id));
    };
    const start = (isRepeated: boolean) => (action: () => void, ms = 0) => {
      const id = this.#nextId++;
      const arm = () => this.#stops.set(id, this.#time.after(ms, run));
      const run = () => {
        if (isRepeated) arm();
        else this.#stops.delete(id);
        action();
      };
      arm();
      return id;
    };
    Object.assign(globalThis, {
      setInterval: start(true),
      clearInterval: clear,
      setTimeout: start(false),
      clearTimeout: clear,
    });
  }

  get now(): number {
    return this.#time.now;
  }

  /** Timers that are armed. */
  get armedCount(): number {
    return this.#stops.size;
  }

  /** Lets so much time go by. */
  async pass(ms: number): Promise<void> {
    await this.#time.pass(ms);
  }

  [Symbol.dispose](): void {
    const { now, ...timers } = this.#real;
    performance.now = now;
    Object.assign(globalThis, timers);
  }
}
