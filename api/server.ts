import { Hono } from "hono";
import { matchedRoutes } from "hono/route";
import { AppError } from "../core/errors.ts";
import { BODY_BYTES_MAX, BODY_TIMEOUT_MS } from "./body.ts";
import { chatRoutes } from "./chat.ts";
import { clusterRoutes } from "./cluster.ts";
import { errorResponse } from "./errors.ts";
import { eventRoutes } from "./events.ts";
import type { Gateway } from "./gateway.ts";
import { guard, type GuardOptions, requireUsableKey } from "./guard.ts";
import { instanceLinkRoutes } from "./instance_links.ts";
import { instanceRoutes } from "./instances.ts";
import { metaInstanceRoutes } from "./meta_instances.ts";
import { Metrics } from "./metrics/metrics.ts";
import { modelRoutes } from "./models.ts";
import { type ConnectionLimits, connectionLimits, HttpListener, type OnCrowded } from "./listen.ts";
import { previewRoutes } from "./previews.ts";
import type { RouteContext, RouteEnv, Router } from "./routes.ts";
import { traceRoutes } from "./traces.ts";

/** How the API is guarded and limited. */
export interface ApiOptions extends GuardOptions {
  readonly bodyBytesMax?: number | undefined;
  readonly bodyTimeoutMs?: number | undefined;
  /** Whether models that make pictures are listed; absent: no. */
  readonly showsImageModels?: boolean | undefined;
  /** Whether instances may be linked, to prefill for each other; absent: no. */
  readonly isDisaggregated?: boolean | undefined;
  readonly keepAliveMs?: number | undefined;
  readonly stallMs?: number | undefined;
  /** Told of every request once its headers are out; never of bodies, prompts or answers. */
  readonly onRequest?: ((record: RequestRecord) => void) | undefined;
  /** Told of every defect of ours, with its stack; the client gets a 500 without one. */
  readonly onDefect?: ((error: unknown, route: string) => void) | undefined;
  /** What `/metrics` shows; absent: what this server counts from now on. */
  readonly metrics?: Metrics | undefined;
}

/** One request, for a log. */
export interface RequestRecord {
  /** As the reply's `X-Request-Id` names it. */
  readonly requestId: string;
  readonly method: string;
  readonly path: string;
  readonly status: number;
  /** Until the headers of the reply; a stream goes on after them. */
  readonly ms: number;
}

/** Names a request on its reply and in the log. */
export const REQUEST_ID_HEADER = "X-Request-Id";

const METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"];

/** All routes over `gateway`; takes requests in process too, as the tests do. */
export function createApp(gateway: Gateway, options: ApiOptions = {}): Router {
  if (options.apiKey !== undefined) requireUsableKey(options.apiKey);
  const app: Router = new Hono<RouteEnv>();
  const metrics = options.metrics ?? new Metrics(gateway);
  app.use(async (c, next) => {
    metrics.requests.began();
    const requestId = gateway.newId();
    // A steady clock: the node's may be set while the request is answered.
    const startedAt = performance.now();
    await next();
    c.res.headers.set(REQUEST_ID_HEADER, requestId);
    const { method, path } = c.req;
    metrics.requests.answered({ method, route: routeOf(c), status: c.res.status });
    const ms = Math.round(performance.now() - startedAt);
    options.onRequest?.({ requestId, method, path, status: c.res.status, ms });
  });
  app.use(guard(options));
  app.use(async (c, next) => {
    await next();
    // Clients poll; one that caches what it polls fills a disk (spec §1, caching headers).
    if (!c.res.headers.has("cache-control")) c.res.headers.set("cache-control", "no-store");
  });
  const routes = routesOver(gateway, { ...options, metrics });
  app.route("/", routes);
  app.notFound((c) => unknownRoute(routes, c.req.method, c.req.path));
  app.onError((error, c) => {
    if (!(error instanceof AppError)) options.onDefect?.(error, `${c.req.method} ${c.req.path}`);
    return errorResponse(error);
  });
  return app;
}

/** The pattern of the route that answers: the first, but for what every request passes. */
function routeOf(c: RouteContext): string | undefined {
  return matchedRoutes(c).find(({ path }) => path !== "/*")?.path;
}

function routesOver(
  gateway: Gateway,
  { metrics, ...options }: ApiOptions & { readonly metrics: Metrics },
): Router {
  const routes: Router = new Hono<RouteEnv>();
  const shared = {
    gateway,
    metrics,
    limits: {
      bytesMax: options.bodyBytesMax ?? BODY_BYTES_MAX,
      timeoutMs: options.bodyTimeoutMs ?? BODY_TIMEOUT_MS,
    },
    streams: { keepAliveMs: options.keepAliveMs, stallMs: options.stallMs },
    isAuthenticated: options.apiKey !== undefined,
    showsImageModels: options.showsImageModels ?? false,
    isDisaggregated: options.isDisaggregated ?? false,
  };
  clusterRoutes(routes, shared);
  eventRoutes(routes, shared);
  modelRoutes(routes, shared);
  // Before the routes of one instance, whose ids could be named alike.
  previewRoutes(routes, shared);
  instanceRoutes(routes, shared);
  metaInstanceRoutes(routes, shared);
  instanceLinkRoutes(routes, shared);
  chatRoutes(routes, shared);
  traceRoutes(routes, shared);
  return routes;
}

function unknownRoute(routes: Router, method: string, path: string): Response {
  const allowed = METHODS.filter((other) => routes.router.match(other, path)[0].length > 0);
  const wanted = `Cannot ${method} ${path}`;
  if (allowed.length === 0) {
    const hint =
      "clients of OpenAI use /v1/chat/completions and /v1/models; GET /state has the rest";
    return errorResponse(
      new AppError("not_found", `${wanted}: found no such route, a known one needed`, { hint }),
    );
  }
  const needed = `${wanted}: ${allowed.join(" or ")} needed`;
  const hint = `send ${allowed[0]} ${path} instead`;
  const response = errorResponse(new AppError("method_not_allowed", needed, { hint }));
  response.headers.set("allow", allowed.join(", "));
  return response;
}

/** A server that listens. */
export interface ApiServer {
  readonly hostname: string;
  readonly port: number;
  /** For clients on this machine. */
  readonly url: string;
  /** Resolves once the server has stopped. */
  readonly finished: Promise<void>;
}

/** Where the server listens, and until when. */
export interface ListenOptions extends ApiOptions {
  readonly hostname: string;
  /** 0 takes any free port. */
  readonly port: number;
  /** Aborted: the server closes at once, with all its connections. */
  readonly signal: AbortSignal;
  /** In place of the limits of this process. */
  readonly connections?: Partial<ConnectionLimits> | undefined;
  readonly onCrowded?: OnCrowded | undefined;
}

/**
 * Serves `gateway` over HTTP.
 * @throws {AppError} `conflict` when the port is taken, `usage` when the address is not ours.
 */
export async function serveApi(gateway: Gateway, options: ListenOptions): Promise<ApiServer> {
  const metrics = options.metrics ?? new Metrics(gateway);
  const app = createApp(gateway, { ...options, metrics });
  const { hostname, signal, onCrowded = () => {} } = options;
  const limits = { ...await connectionLimits(), ...options.connections };
  const listener = listenOn(hostname, options.port);
  const server = new HttpListener(app, listener, { limits, onCrowded });
  const unwatch = metrics.process.watchEventLoop();
  const close = () => {
    unwatch();
    server.close();
  };
  signal.addEventListener("abort", close, { once: true });
  if (signal.aborted) close();
  const { port } = listener.addr as Deno.NetAddr;
  return { hostname, port, url: localUrl(hostname, port), finished: server.finished };
}

/**
 * Tries whether the address can be served, so that it is known before a node is started.
 * @throws {AppError} as `serveApi` does.
 */
export function checkAddress(hostname: string, port: number): void {
  listenOn(hostname, port).close();
}

function listenOn(hostname: string, port: number): Deno.TcpListener {
  try {
    return Deno.listen({ hostname, port });
  } catch (error) {
    throw listenError(error, hostname, port);
  }
}

function listenError(error: unknown, hostname: string, port: number): AppError {
  const wanted = `Cannot listen on ${hostname}:${port}`;
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  if (code === "EADDRINUSE") {
    return new AppError("conflict", `${wanted}: the port is taken, a free one needed`, {
      hint: `stop the program that has it, or let exo choose one: --port 0`,
      cause: error,
    });
  }
  if (code === "EADDRNOTAVAIL") {
    return new AppError(
      "usage",
      `${wanted}: this machine has no such address, one of its own needed`,
      {
        hint: "choose one of this machine with --host, such as 127.0.0.1",
        cause: error,
      },
    );
  }
  if (code === "EACCES") {
    return new AppError("forbidden", `${wanted}: not permitted, a port of 1024 or more needed`, {
      hint: "choose another port, such as --port 52415",
      cause: error,
    });
  }
  const said = error instanceof Error ? error.message : String(error);
  const found = said.includes("lookup")
    ? "there is no host of that name, an address of this machine needed"
    : said;
  return new AppError("usage", `${wanted}: ${found}`, {
    hint: "choose an address of this machine with --host, such as 127.0.0.1",
    cause: error,
  });
}

/** A server that listens everywhere is reached by loopback. */
function localUrl(hostname: string, port: number): string {
  const everywhere: Record<string, string> = { "0.0.0.0": "127.0.0.1", "::": "::1" };
  const host = everywhere[hostname] ?? hostname;
  return `http://${host.includes(":") ? `[${host}]` : host}:${port}`;
}
