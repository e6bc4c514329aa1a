import { cpuUsage, memoryUsage } from "node:process";
import { Counter, Gauge, Histogram, type Registry } from "prom-client";

/** Time between two looks at how late the event loop is. */
const LAG_LOOK_MS = 2_000;

/** Upper bounds in seconds; a healthy node stays below the fourth (design D16). */
const LAG_BUCKETS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5];

/**
 * The node's own process, under the names that Prometheus gives them: those of the library are
 * wrong under Deno, whose event loop does not tell of itself.
 */
export class ProcessMetrics {
  readonly #lag: Histogram;

  constructor(registry: Registry) {
    const registers = [registry];
    this.#lag = new Histogram({
      name: "exo_event_loop_lag_seconds",
      help: "How late timers are: the time that the node was deaf to everybody",
      buckets: LAG_BUCKETS,
      registers,
    });
    new Counter({
      name: "process_cpu_seconds_total",
      help: "Processor time of the node, without its runners",
      registers,
      collect() {
        const { user, system } = cpuUsage();
        this.reset();
        this.inc((user + system) / 1e6);
      },
    });
    new Gauge({
      name: "process_start_time_seconds",
      help: "When the node was started, since 1970",
      registers,
    }).set(performance.timeOrigin / 1000);
    new Gauge({
      name: "process_resident_memory_bytes",
      help: "Memory of the node, without its runners",
      registers,
      collect() {
        this.set(memoryUsage().rss);
      },
    });
    new Gauge({
      name: "exo_heap_used_bytes",
      help: "Memory of the node's JavaScript objects",
      registers,
      collect() {
        this.set(memoryUsage().heapUsed);
      },
    });
  }

  /** Looks at the event loop until the returned function is called. */
  watchEventLoop(): () => void {
    let due = performance.now() + LAG_LOOK_MS;
    const look = () => {
      const now = performance.now();
      this.#lag.observe(Math.max(0, now - due) / 1000);
      due = now + LAG_LOOK_MS;
      timer = setTimeout(look, LAG_LOOK_MS);
    };
    let timer = setTimeout(look, LAG_LOOK_MS);
    return () => clearTimeout(timer);
  }
}
