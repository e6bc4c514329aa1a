import { Counter, Gauge, type Registry } from "prom-client";
import { type EngineStats, type GroupTraffic, instanceStats } from "../../core/engine_stats.ts";
import type { Gateway } from "../gateway.ts";

type Read = (stats: EngineStats) => number;

/** What an engine has counted since its runner's start; a runner that starts anew counts from 0. */
const COUNTERS: readonly (readonly [name: string, help: string, read: Read])[] = [
  ["exo_engine_requests_total", "Generations that the engine took", (s) => s.requests],
  ["exo_engine_steps_total", "Steps of the engine", (s) => s.steps],
  [
    "exo_preemptions_total",
    "How often a generation gave its memory to another, to be computed again",
    (s) => s.preemptions,
  ],
  ["exo_prompt_tokens_total", "Prompt tokens, computed or cached", (s) => s.promptTokens],
  [
    "exo_prompt_cached_tokens_total",
    "Prompt tokens that were found in the prefix cache",
    (s) => s.cachedTokens,
  ],
  [
    "exo_prefill_tokens_total",
    "Tokens read in prefill: prompts less what was cached, and all again after a preemption",
    (s) => s.prefillTokens,
  ],
  ["exo_generated_tokens_total", "Tokens that were generated", (s) => s.generatedTokens],
];

/** What ranks have sent to each other, all together, of instances that have several. */
const TRAFFIC: readonly (readonly [
  name: string,
  help: string,
  read: (traffic: GroupTraffic) => number,
])[] = [
  ["exo_group_sent_bytes_total", "Bytes that ranks sent to each other", (t) => t.bytesSent],
  ["exo_group_sent_frames_total", "Frames that ranks sent to each other", (t) => t.framesSent],
  [
    "exo_group_wait_seconds_total",
    "How long ranks waited for each other, all together",
    (t) => t.waitedMs / 1000,
  ],
];

/** How an engine stands. */
const GAUGES: readonly (readonly [name: string, help: string, read: Read])[] = [
  ["exo_generations_running", "Generations that are computed", (s) => s.running],
  ["exo_generations_queued", "Generations that wait for their turn", (s) => s.queued],
  [
    "exo_queue_longest_wait_seconds",
    "How long the first generation of the queue has waited",
    (s) => s.longestWaitMilliseconds / 1000,
  ],
  ["exo_batch_size", "Generations in the last step; 0 at rest", (s) => s.batchSize],
  [
    "exo_prompt_tokens_per_second",
    "Prompt tokens computed in the last second; 0 at rest",
    (s) => s.promptTokensPerSecond,
  ],
  [
    "exo_generation_tokens_per_second",
    "Tokens generated in the last second; 0 at rest",
    (s) => s.generationTokensPerSecond,
  ],
  [
    "exo_kv_budget_bytes",
    "Most that keys and values may take, running and cached",
    (s) => s.memory.kvBudgetBytes,
  ],
];

/** Memory by its kind. */
const MEMORY: Readonly<Record<string, Read>> = {
  weights: ({ memory }) => memory.weightBytes,
  kv: ({ memory }) => memory.kvBytes,
  prefix_cache: ({ memory }) => memory.prefixCacheBytes,
};

const LABELS = ["model", "instance"] as const;

/** Shows what the engines of instances have told, of those that are there when it is asked. */
export function registerEngineMetrics(registry: Registry, gateway: Gateway): void {
  const registers = [registry];
  const told = () => toldBy(gateway);
  for (const [name, help, read] of COUNTERS) {
    new Counter({
      name,
      help,
      labelNames: LABELS,
      registers,
      collect() {
        this.reset();
        for (const { labels, stats } of told()) this.inc(labels, read(stats));
      },
    });
  }
  for (const [name, help, read] of TRAFFIC) {
    new Counter({
      name,
      help,
      labelNames: LABELS,
      registers,
      collect() {
        this.reset();
        for (const { labels, stats } of told()) {
          if (stats.group) this.inc(labels, read(stats.group));
        }
      },
    });
  }
  for (const [name, help, read] of GAUGES) {
    new Gauge({
      name,
      help,
      labelNames: LABELS,
      registers,
      collect() {
        this.reset();
        for (const { labels, stats } of told()) this.set(labels, read(stats));
      },
    });
  }
  new Gauge({
    name: "exo_memory_bytes",
    help: "Memory of an instance: weights, keys and values that run (kv), those that are kept",
    labelNames: [...LABELS, "kind"],
    registers,
    collect() {
      this.reset();
      for (const { labels, stats } of told()) {
        for (const [kind, read] of Object.entries(MEMORY)) {
          this.set({ ...labels, kind }, read(stats));
        }
      }
    },
  });
}

function toldBy(gateway: Gateway) {
  const told = gateway.engineStats();
  return [...gateway.state().instances].flatMap(([instance, placed]) => {
    const stats = instanceStats(placed, told);
    const labels = { model: placed.shardAssignments.modelId, instance };
    return stats ? [{ labels, stats }] : [];
  });
}
