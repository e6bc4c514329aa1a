import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { getRequestListener, type HttpBindings } from "@hono/node-server";
import type { Bindings, Router } from "./routes.ts";

/** Longest time that the head of a request may take. */
export const HEAD_TIMEOUT_MS = 15_000;

/** How often connections are looked at whose head is late. */
const HEAD_LOOK_MS = 5_000;

/** Longest silence of a connection between two requests. */
export const IDLE_TIMEOUT_MS = 90_000;

/** Most connections at once; further ones are closed as they come. */
export const CONNECTIONS_MAX = 4_096;

/**
 * Listens for HTTP; rejects with the error of the system. By `node:http`, since its connections have
 * limits: under `Deno.serve`, one whose request is never complete stays open for ever.
 */
export async function listen(app: Router, hostname: string, port: number): Promise<Server> {
  const limits = {
    headersTimeout: HEAD_TIMEOUT_MS,
    connectionsCheckingInterval: HEAD_LOOK_MS,
    keepAliveTimeout: IDLE_TIMEOUT_MS,
    // A body has a limit of its own, after which the client is told why.
    requestTimeout: 0,
  };
  const answer = getRequestListener((request, env) => {
    const { incoming } = env as HttpBindings;
    const bindings: Bindings = { remoteAddress: incoming.socket.remoteAddress };
    return app.fetch(request, bindings);
  }, { overrideGlobalObjects: false });
  const server = createServer(limits, answer);
  server.maxConnections = CONNECTIONS_MAX;
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once("error", reject);
  server.listen(port, hostname, resolve);
  await promise;
  return server;
}

/** The port that a listening server has. */
export function portOf(server: Server): number {
  return (server.address() as AddressInfo).port;
}
