import { Counter, Gauge, Histogram, type Registry } from "prom-client";
import type { Chunk } from "../../core/chunk.ts";
import { AppError } from "../../core/errors.ts";
import type { ModelId } from "../../core/ids.ts";
import { isInFlight } from "../../core/task.ts";
import type { Gateway, Generation } from "../gateway.ts";

/** Models that have a label of their own since the node's start; all later ones share one. */
export const MODEL_LABELS_MAX = 256;

/** Upper bounds in seconds: from what a cached prompt takes to the longest that anybody waits. */
const WAIT_BUCKETS = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120];

/** Upper bounds in seconds: from a small model alone to a step held up by a long prompt. */
const TOKEN_BUCKETS = [0.001, 0.0025, 0.005, 0.01, 0.02, 0.035, 0.05, 0.1, 0.25, 0.5, 1, 2.5];

/** A generation that is measured. */
interface Followed {
  readonly model: string;
  readonly startedAt: number;
  /** Its reader has come. */
  readonly begin: () => void;
  /** Counts it, once. */
  readonly end: (outcome: string) => void;
}

/** Measures generations where their clients are: at the API, between request and reply. */
export class GenerationMetrics {
  readonly #now: () => number;
  readonly #labels = new Set<string>();
  readonly #ended: Counter<"model" | "outcome">;
  readonly #firstToken: Histogram<"model">;
  readonly #betweenTokens: Histogram<"model">;
  readonly #queueWait: Histogram<"model">;
  readonly #lookups: Counter<"model" | "result">;

  /** `now` in milliseconds on a steady clock. */
  constructor(registry: Registry, gateway: Gateway, now: () => number) {
    this.#now = now;
    const registers = [registry];
    const labelNames = ["model"] as const;
    this.#ended = new Counter({
      name: "exo_generations_total",
      help: "Generations that ended, by finish reason or code of the error",
      labelNames: ["model", "outcome"],
      registers,
    });
    this.#firstToken = new Histogram({
      name: "exo_time_to_first_token_seconds",
      help: "From the request to the first text of its answer",
      labelNames,
      buckets: WAIT_BUCKETS,
      registers,
    });
    this.#betweenTokens = new Histogram({
      name: "exo_inter_token_latency_seconds",
      help: "Between two pieces of text of one answer",
      labelNames,
      buckets: TOKEN_BUCKETS,
      registers,
    });
    this.#queueWait = new Histogram({
      name: "exo_queue_wait_seconds",
      help: "From a request's arrival at the engine to its first step",
      labelNames,
      buckets: WAIT_BUCKETS,
      registers,
    });
    this.#lookups = new Counter({
      name: "exo_prefix_cache_lookups_total",
      help: "Prompts by how much of them the prefix cache had: none, partial or exact",
      labelNames: ["model", "result"],
      registers,
    });
    const label = (modelId: ModelId) => this.#label(modelId);
    new Gauge({
      name: "exo_generations_in_flight",
      help: "Generations that clients of this node wait for or read",
      labelNames,
      registers,
      collect() {
        this.reset();
        for (const task of gateway.state().tasks.values()) {
          if (task.apiNodeId === gateway.nodeId && isInFlight(task)) {
            this.inc({ model: label(task.modelId) });
          }
        }
      },
    });
  }

  /**
   * The generation that `ask` asks for, measured while it is read. One that nobody has begun to read
   * when `signal` aborts has ended then.
   */
  async follow(
    { modelId, signal }: { readonly modelId: ModelId; readonly signal: AbortSignal },
    ask: () => Promise<Generation>,
  ): Promise<Generation> {
    const startedAt = this.#now();
    const model = this.#label(modelId);
    let isEnded = false;
    const end = (outcome: string) => {
      if (!isEnded) this.#ended.inc({ model, outcome });
      isEnded = true;
    };
    try {
      const generation = await ask();
      const leave = () => end("cancelled");
      if (signal.aborted) leave();
      signal.addEventListener("abort", leave, { once: true });
      const begin = () => signal.removeEventListener("abort", leave);
      const followed = { model, startedAt, begin, end };
      return { ...generation, chunks: this.#measure(generation.chunks, followed) };
    } catch (error) {
      end(error instanceof AppError ? error.code : "internal");
      throw error;
    }
  }

  async *#measure(
    chunks: AsyncIterable<Chunk>,
    { model, startedAt, begin, end }: Followed,
  ): AsyncGenerator<Chunk> {
    begin();
    let lastAt: number | undefined;
    let outcome = "cancelled";
    try {
      for await (const chunk of chunks) {
        if (chunk.type === "Token") {
          const now = this.#now();
          const [histogram, since] = lastAt === undefined
            ? [this.#firstToken, startedAt]
            : [this.#betweenTokens, lastAt];
          histogram.observe({ model }, (now - since) / 1000);
          lastAt = now;
        }
        if (chunk.type === "Error") outcome = chunk.error.code;
        if (chunk.type === "Finish") {
          outcome = chunk.finishReason;
          this.#finish(model, chunk);
        }
        yield chunk;
      }
    } finally {
      end(outcome);
    }
  }

  #finish(model: string, { stats }: Extract<Chunk, { type: "Finish" }>): void {
    const { queueMilliseconds, prefixCacheHit } = stats;
    if (queueMilliseconds !== undefined) {
      this.#queueWait.observe({ model }, queueMilliseconds / 1000);
    }
    if (prefixCacheHit !== undefined) this.#lookups.inc({ model, result: prefixCacheHit });
  }

  /** Nobody's models make the labels grow without end. */
  #label(modelId: ModelId): string {
    if (!this.#labels.has(modelId)) {
      if (this.#labels.size >= MODEL_LABELS_MAX) return "other";
      this.#labels.add(modelId);
    }
    return modelId;
  }
}
