import type { Context, Hono } from "hono";
import type { BodyLimits } from "./body.ts";
import type { Gateway } from "./gateway.ts";
import type { Metrics } from "./metrics/metrics.ts";
import type { SseOptions } from "./sse.ts";

/** What the server knows of a request beside the request itself. */
export interface Bindings {
  /** Address of the client; undefined when there is no socket. */
  readonly remoteAddress?: string | undefined;
}

/** The web framework's types for our routes. */
export interface RouteEnv {
  Bindings: Bindings;
}

/** The router that all routes are put on. */
export type Router = Hono<RouteEnv>;
/** One request as a route handles it. */
export type RouteContext = Context<RouteEnv>;

/** What every group of routes is given. */
export interface RouteOptions {
  readonly gateway: Gateway;
  readonly metrics: Metrics;
  readonly limits: BodyLimits;
  /** How streams are kept (`api/sse.ts`). */
  readonly streams: Pick<SseOptions, "keepAliveMs" | "stallMs">;
  /** Whether each request has shown the API key. */
  readonly isAuthenticated: boolean;
  /** Whether models that make pictures are listed. */
  readonly showsImageModels: boolean;
  /** Whether instances may be linked, to prefill for each other. */
  readonly isDisaggregated: boolean;
}
