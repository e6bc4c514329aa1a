import type { MiddlewareHandler } from "hono";
import { AppError } from "../core/errors.ts";
import type { RouteEnv } from "./routes.ts";

/** Who may use the API. */
export interface GuardOptions {
  /** With a key every route but the probes wants it. */
  readonly apiKey?: string | undefined;
  /** Names beside `localhost` and IP literals that a request without a key may be sent to. */
  readonly allowedHosts?: readonly string[] | undefined;
}

/** Routes that say nothing but that the process lives. */
const OPEN_PATHS = new Set(["/healthz", "/readyz"]);

/** Methods that change nothing: a foreign page may send them, but cannot read the answer. */
const SAFE_METHODS = new Set(["GET", "HEAD", "OPTIONS"]);

/**
 * Lets pass what may use the API (design D11 and the ruling on API keys): with a key, whoever
 * shows it; without one, only what was sent to this machine by address or as localhost, so that
 * a web page cannot reach it through a name of its own (DNS rebinding) nor by a cross-site form.
 */
export function guard(options: GuardOptions): MiddlewareHandler<RouteEnv> {
  return async (c, next) => {
    if (!OPEN_PATHS.has(c.req.path)) check(c.req.raw, options);
    await next();
  };
}

/** Refuses a key that no header can carry. @throws {AppError} `usage`, without the key. */
export function requireUsableKey(apiKey: string): void {
  if (/^[\x21-\x7e]+$/.test(apiKey)) return;
  const found = apiKey === "" ? "found an empty key" : "found a space or a character beyond ASCII";
  throw new AppError("usage", `Cannot use the API key: ${found}, printable ASCII needed`, {
    hint: "choose a key of letters, digits and signs, such as the output of: openssl rand -hex 16",
  });
}

function check(request: Request, { apiKey, allowedHosts = [] }: GuardOptions): void {
  if (apiKey !== undefined) return checkKey(request, apiKey);
  const host = hostOf(request);
  if (!isLocalName(host) && !allowedHosts.includes(host)) {
    throw new AppError(
      "forbidden",
      `Cannot serve the host "${host}" without an API key: localhost or an IP address needed`,
      {
        hint: "use localhost or an IP address, or start the node with --api-key",
      },
    );
  }
  const origin = request.headers.get("origin");
  if (origin === null || SAFE_METHODS.has(request.method)) return;
  if (URL.parse(origin)?.host !== URL.parse(`http://${authority(request)}`)?.host) {
    throw new AppError(
      "forbidden",
      `Cannot serve a request of another site: found origin ${origin}, that of this node needed`,
      {
        hint: "call the API from a program, or from a page that this node serves",
      },
    );
  }
}

function checkKey(request: Request, apiKey: string): void {
  const { headers } = request;
  const bearer = /^Bearer\s+(\S+)\s*$/i.exec(headers.get("authorization") ?? "")?.[1];
  const given = bearer ?? headers.get("x-api-key") ?? undefined;
  if (given !== undefined && isSameKey(given, apiKey)) return;
  const found = given === undefined ? "no API key" : "a wrong API key";
  throw new AppError(
    "unauthorized",
    `Cannot serve the request: found ${found}, the one that the node was started with needed`,
    {
      hint: "send Authorization: Bearer KEY; exo takes --api-key or EXO_API_KEY",
    },
  );
}

/** Compares in a time that tells nothing about where two keys differ. */
export function isSameKey(given: string, needed: string): boolean {
  const encoder = new TextEncoder();
  const a = encoder.encode(given);
  const b = encoder.encode(needed);
  let difference = a.length ^ b.length;
  for (let i = 0; i < a.length; i++) difference |= (a[i] ?? 0) ^ (b[i % b.length] ?? 0);
  return difference === 0;
}

function authority(request: Request): string {
  return request.headers.get("host") ?? new URL(request.url).host;
}

/** The host name that the client wrote, without its port, as URLs normalise it. */
function hostOf(request: Request): string {
  return URL.parse(`http://${authority(request)}`)?.hostname ?? authority(request);
}

function isLocalName(host: string): boolean {
  return host === "localhost" || host.startsWith("[") || isIpv4(host);
}

function isIpv4(host: string): boolean {
  return /^\d{1,3}(\.\d{1,3}){3}$/.test(host);
}

/** Whether an address is one that only this machine can have sent from. */
export function isLoopback(address: string | undefined): boolean {
  if (address === undefined) return false;
  return address === "::1" || /^(::ffff:)?127\./.test(address);
}
