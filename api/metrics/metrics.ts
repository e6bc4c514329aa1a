import { Registry } from "prom-client";
import type { Gateway } from "../gateway.ts";
import { registerEngineMetrics } from "./engines.ts";
import { GenerationMetrics } from "./generations.ts";
import { registerNetworkMetrics } from "./network.ts";
import { ProcessMetrics } from "./process.ts";
import { RequestMetrics } from "./requests.ts";

/**
 * What `GET /metrics` shows. Labels are routes, models, instances and codes: never what a client
 * made up, nor the id of a request, so that their number has a bound.
 */
export class Metrics {
  readonly requests: RequestMetrics;
  readonly generations: GenerationMetrics;
  readonly process: ProcessMetrics;
  readonly #registry = new Registry();

  /** `now` in milliseconds on a steady clock; tests bring their own. */
  constructor(gateway: Gateway, now: () => number = () => performance.now()) {
    this.requests = new RequestMetrics(this.#registry);
    this.generations = new GenerationMetrics(this.#registry, gateway, now);
    this.process = new ProcessMetrics(this.#registry);
    registerEngineMetrics(this.#registry, gateway);
    registerNetworkMetrics(this.#registry, gateway);
  }

  /** All of it in the text format of Prometheus. */
  async render(): Promise<{ readonly text: string; readonly contentType: string }> {
    return { text: await this.#registry.metrics(), contentType: this.#registry.contentType };
  }
}
