import { type EngineCounts, type EngineStats, statsAtWork } from "../core/engine_stats.ts";
import type { Engine } from "./engine.ts";

/** Least time between two reports of how an engine at work is doing. */
export const STATS_MS = 1_000;

/** Says when a runner tells how its engine is doing: once a second from when work began. */
export class StatsPace {
  #last: { readonly counters: EngineCounts; readonly at: number } | undefined;

  /** To be called before each step; `now` in milliseconds on a steady clock. */
  atWork(engine: Pick<Engine, "stats">, now: number): EngineStats | undefined {
    const last = this.#last;
    if (last && now - last.at < STATS_MS) return undefined;
    const counters = engine.stats();
    this.#last = { counters, at: now };
    return last && statsAtWork(last.counters, counters, now - last.at);
  }

  /** Work is over: rates start anew with the next. */
  rest(): void {
    this.#last = undefined;
  }
}
