import { Counter, Gauge, type Registry } from "prom-client";

/** Methods that have a label of their own; a client may make up others. */
const METHODS = new Set(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]);

/** The route of a request for which there is none. */
const UNMATCHED = "unmatched";

/** One request that was answered. */
export interface AnsweredRequest {
  readonly method: string;
  /** The pattern of its route; undefined when there is none. */
  readonly route: string | undefined;
  readonly status: number;
}

/** Counts requests by route and status. */
export class RequestMetrics {
  readonly #answered: Counter<"method" | "route" | "status">;
  readonly #inFlight: Gauge;

  constructor(registry: Registry) {
    const registers = [registry];
    this.#answered = new Counter({
      name: "exo_http_requests_total",
      help: "Requests whose reply has begun",
      labelNames: ["method", "route", "status"],
      registers,
    });
    this.#inFlight = new Gauge({
      name: "exo_http_requests_in_flight",
      help: "Requests whose reply has not begun; a stream is one of exo_generations_in_flight then",
      registers,
    });
  }

  began(): void {
    this.#inFlight.inc();
  }

  answered({ method, route, status }: AnsweredRequest): void {
    this.#inFlight.dec();
    this.#answered.inc({
      method: METHODS.has(method) ? method : "other",
      // A pattern may say what a parameter looks like, which is no part of its name.
      route: route === undefined ? UNMATCHED : route.replace(/\{[^}]*\}/g, ""),
      status: String(status),
    });
  }
}
