import { AsyncLocalStorage } from "node:async_hooks";
import { type IncomingMessage, Server, type ServerResponse } from "node:http";
import type { Duplex } from "node:stream";
import { getRequestListener, type HttpBindings } from "@hono/node-server";
import { Connection } from "./connection.ts";
import { CONNECTIONS_MAX, connectionsFor, descriptorsMax } from "./descriptors.ts";
import type { Bindings, Router } from "./routes.ts";
import { STALL_MS } from "./sse.ts";

/** Longest time that the head of a request may take. */
export const HEAD_TIMEOUT_MS = 15_000;

/** How often connections are looked at whose head is late. */
const HEAD_LOOK_MS = 5_000;

/**
 * Longest time from the head of a request to its end, whether its route reads the body or not. A
 * body that is read has a shorter limit (`api/body.ts`), after which the client is told why.
 */
export const REQUEST_TIMEOUT_MS = 60_000;

/** Longest silence of a connection between two requests. */
export const IDLE_TIMEOUT_MS = 90_000;

/**
 * Longest time that a client may take nothing of what it is sent, beyond what sockets hold for it.
 * The client of a stream is told after `STALL_MS` why it ends, and has as long again to read that.
 */
export const UNREAD_MS = 2 * STALL_MS;

/** How long the system is left alone after it could not accept, unless a connection is closed. */
const ACCEPT_RETRY_MS = 100;

/** Shortest time between two complaints that there are too many connections. */
const COMPLAINT_MS = 60_000;

/** What one connection may cost, and how many there may be. */
export interface ConnectionLimits {
  readonly headTimeoutMs: number;
  readonly requestTimeoutMs: number;
  readonly idleTimeoutMs: number;
  readonly unreadMs: number;
  readonly connectionsMax: number;
}

/** The limits of this process. */
export async function connectionLimits(): Promise<ConnectionLimits> {
  return {
    headTimeoutMs: HEAD_TIMEOUT_MS,
    requestTimeoutMs: REQUEST_TIMEOUT_MS,
    idleTimeoutMs: IDLE_TIMEOUT_MS,
    unreadMs: UNREAD_MS,
    connectionsMax: connectionsFor(await descriptorsMax()),
  };
}

/** Hears, at most once a minute, why connections are not taken. */
export type OnCrowded = (why: string) => void;

/**
 * HTTP over the connections of a listener. They are served by `node:http`, since its connections
 * have limits: under `Deno.serve`, one whose request is never complete stays open for ever. They
 * are accepted here, since the listener of `node:http` under Deno 2.9 dies without a word of the
 * first connection that it cannot accept, as when the process is out of descriptors (decision 11).
 */
export class HttpListener {
  readonly #listener: Deno.Listener;
  readonly #server: HttpServer;
  readonly #limits: ConnectionLimits;
  readonly #onCrowded: OnCrowded;
  readonly #open = new Set<Connection>();
  readonly #closing = new AbortController();
  #complainedAt = -Infinity;
  #wake = () => {};

  /** Resolves once the listener and all its connections are closed. */
  readonly finished: Promise<void>;

  constructor(
    app: Router,
    listener: Deno.Listener,
    { limits, onCrowded }: { limits: ConnectionLimits; onCrowded: OnCrowded },
  ) {
    this.#listener = listener;
    this.#server = serverFor(app, limits);
    this.#limits = limits;
    this.#onCrowded = onCrowded;
    this.finished = this.#acceptAll();
  }

  /** Closes the listener and all its connections at once. */
  close(): void {
    if (this.#closing.signal.aborted) return;
    this.#closing.abort();
    this.#listener.close();
    this.#server.close();
    for (const connection of this.#open) connection.destroy();
    this.#wake();
  }

  async #acceptAll(): Promise<void> {
    const { signal } = this.#closing;
    while (!signal.aborted) {
      try {
        this.#take(await this.#listener.accept() as Deno.TcpConn);
      } catch (error) {
        if (!signal.aborted && !isClientGone(error)) await this.#recover(error as Error);
      }
    }
    const closed = [...this.#open].map((one) =>
      new Promise((resolve) => one.once("close", resolve))
    );
    await Promise.all(closed);
  }

  async #recover({ message }: Error): Promise<void> {
    const found = message.replace(/ \(os error \d+\)$/, "");
    this.#complain(`Cannot accept a connection: ${found}; it waits until some are closed`);
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#wake = resolve;
    const timer = setTimeout(resolve, ACCEPT_RETRY_MS);
    await promise;
    clearTimeout(timer);
  }

  #take(socket: Deno.TcpConn): void {
    const { connectionsMax, unreadMs } = this.#limits;
    if (this.#closing.signal.aborted) return socket.close();
    if (this.#open.size >= connectionsMax) {
      socket.close();
      this.#complain(tooMany(connectionsMax));
      return;
    }
    const connection = new Connection(socket, unreadMs);
    this.#open.add(connection);
    connection.once("close", () => {
      this.#open.delete(connection);
      this.#wake();
    });
    this.#server.emit("connection", connection);
  }

  #complain(why: string): void {
    const now = performance.now();
    if (now - this.#complainedAt < COMPLAINT_MS) return;
    this.#complainedAt = now;
    this.#onCrowded(why);
  }
}

/** Whether a connection ended while it waited to be accepted. */
function isClientGone(error: unknown): boolean {
  const { ConnectionAborted, ConnectionReset, NotConnected } = Deno.errors;
  return [ConnectionAborted, ConnectionReset, NotConnected].some((kind) => error instanceof kind);
}

function tooMany(connectionsMax: number): string {
  const limited = connectionsMax < CONNECTIONS_MAX ? "; raise ulimit -n for more" : "";
  return `Cannot take another connection: ${connectionsMax} are open, the most possible${limited}`;
}

/** A server that is handed its connections. */
class HttpServer extends Server {
  // One that does not listen ends every connection after its first reply.
  override listening = true;
}

function serverFor(app: Router, limits: ConnectionLimits): HttpServer {
  const answer = getRequestListener((request, env) => {
    const { incoming } = env as HttpBindings;
    const bindings: Bindings = { remoteAddress: incoming.socket.remoteAddress };
    return app.fetch(request, bindings);
  }, { overrideGlobalObjects: false });
  // Under Deno, all timers and promises that come of a request hold it and its connection, also
  // those that outlast it, as of a message to other nodes. Out here none is known to them.
  const outside = AsyncLocalStorage.snapshot();
  const handle = (incoming: IncomingMessage, outgoing: ServerResponse) => {
    // As `#take` gave it; `node:http` believes that it is a socket of its own.
    const connection = incoming.socket as Duplex as Connection;
    connection.limitRequest(incoming, limits.requestTimeoutMs);
    // An answer may take longer than a connection may be idle: with a listener it goes on.
    outgoing.on("timeout", () => {});
    outside(() => void answer(incoming, outgoing));
  };
  const { headTimeoutMs, idleTimeoutMs } = limits;
  const server = new HttpServer({
    headersTimeout: headTimeoutMs,
    connectionsCheckingInterval: Math.min(HEAD_LOOK_MS, headTimeoutMs),
    keepAliveTimeout: idleTimeoutMs,
    // It would not look at a request any more whose reply is sent.
    requestTimeout: 0,
  }, handle);
  // The first byte after a reply sets this limit in place of the idle one. A connection has it from
  // the start, so it must not be shorter than that of a head.
  server.timeout = Math.max(headTimeoutMs, idleTimeoutMs);
  // A refusal of its own would pass by the limit of a request.
  server.on("checkExpectation", handle);
  // Whereupon it begins to look at connections whose head is late.
  server.emit("listening");
  return server;
}
