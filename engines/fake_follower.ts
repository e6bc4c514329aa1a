import type { EngineCounts } from "../core/engine_stats.ts";
import { AppError } from "../core/errors.ts";
import type { Engine, TaskResponse } from "./engine.ts";
import type { FakeRing } from "./fake_ring.ts";
import { type FakeScript, strike, type Write } from "./fake_script.ts";

/** A rank of a fake group that another leads: it passes each step on, and is faulty on demand. */
export class FakeFollower implements Engine {
  readonly #script: FakeScript;
  readonly #write: Write;
  readonly #ring: FakeRing;
  #steps = 0;

  constructor(script: FakeScript, write: Write, ring: FakeRing) {
    this.#script = script;
    this.#write = write;
    this.#ring = ring;
  }

  warmup(): void {
    strike(this.#script, "warmup", this.#write, this.#ring.rank);
  }

  submit(): never {
    throw new AppError("internal", "Cannot take a request: the first rank of the group needed");
  }

  hasWork(): boolean {
    return this.#ring.hasNews;
  }

  step(): Iterable<TaskResponse> {
    const frame = this.#ring.take();
    if (frame === undefined) return [];
    this.#steps++;
    if (frame === "prefill" || frame === "decode") {
      strike(this.#script, frame, this.#write, this.#ring.rank);
    }
    this.#ring.send(frame);
    return [];
  }

  arrival(): Promise<void> {
    return this.#ring.arrival();
  }

  cancel(): void {}

  relieve(): void {}

  stats(): EngineCounts {
    return {
      ...{ running: 0, queued: 0, longestWaitMilliseconds: 0, batchSize: 0, preemptions: 0 },
      ...{ cachedTokens: 0, requests: 0, promptTokens: 0, prefillTokens: 0, generatedTokens: 0 },
      steps: this.#steps,
      memory: { weightBytes: 0, kvBytes: 0, prefixCacheBytes: 0, kvBudgetBytes: 0 },
    };
  }

  close(): void {
    this.#ring.close();
  }
}
