import { equal, match, ok } from "node:assert/strict";
import { executionAsyncResource } from "node:async_hooks";
import { IncomingMessage } from "node:http";
import { createInterface } from "node:readline";
import { Readable } from "node:stream";
import {
  CONNECTIONS_MAX,
  connectionsFor,
  descriptorsMax,
  parseLimits,
} from "../../api/descriptors.ts";
import type { ConnectionLimits } from "../../api/listen.ts";
import { serveApi } from "../../api/server.ts";
import { MIB } from "../../core/units.ts";
import { eventually } from "../support/eventually.ts";
import { FakeGateway, FINISH, token } from "../support/fake_gateway.ts";
import { CROWDED_API_MAIN } from "../support/programs.ts";
import { rawRequest } from "../support/raw_http.ts";
import { chatOf } from "./requests.ts";

/** Descriptors of a process that soon has no more: Deno itself takes some 26. */
const FEW_DESCRIPTORS = 64;

/** A served fake node with a ready model, and what its host heard. */
async function served(connections: Partial<ConnectionLimits>) {
  const gateway = new FakeGateway();
  gateway.placeModel();
  const stop = new AbortController();
  const heard: string[] = [];
  const server = await serveApi(gateway, {
    hostname: "127.0.0.1",
    port: 0,
    signal: stop.signal,
    connections,
    onCrowded: (why) => heard.push(why),
  });
  return {
    url: server.url,
    gateway,
    heard,
    connect: () => Deno.connect({ hostname: "127.0.0.1", port: server.port }),
    async [Symbol.asyncDispose]() {
      stop.abort();
      await server.finished;
    },
  };
}

/** Longest time until a connection is closed. */
const CLOSED_MS_MAX = 20_000;

const HEAD = "GET /node_id HTTP/1.1\r\nHost: localhost\r\n";
const LAST = `${HEAD}Connection: close\r\n\r\n`;

async function send(connection: Deno.Conn, text: string): Promise<void> {
  await connection.write(new TextEncoder().encode(text));
}

/** Sends text and returns all that comes until the server closes the connection. */
async function exchange(connection: Deno.Conn, text: string): Promise<string> {
  await send(connection, text);
  return await untilClosed(connection);
}

/** Sends text and returns what comes up to the end of a reply to `/node_id`. */
async function reply(connection: Deno.Conn, text: string): Promise<string> {
  await send(connection, text);
  return await readText(connection, (got) => got.endsWith('"node-1"'));
}

async function untilClosed(connection: Deno.Conn): Promise<string> {
  const { promise: late, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new Error("The connection stayed open")), CLOSED_MS_MAX);
  try {
    return await Promise.race([readText(connection), late]);
  } finally {
    clearTimeout(timer);
  }
}

async function readText(connection: Deno.Conn, isEnough = (_: string) => false): Promise<string> {
  const buffer = new Uint8Array(16_384);
  const decoder = new TextDecoder();
  let text = "";
  while (!isEnough(text)) {
    // With bytes of ours unread, a server that closes resets the connection.
    const count = await connection.read(buffer).catch(() => null);
    if (count === null) break;
    text += decoder.decode(buffer.subarray(0, count), { stream: true });
  }
  return text;
}

/** Whether the node answers on a connection of its own. */
async function answers(url: string): Promise<boolean> {
  const reply = await rawRequest(url, { method: "GET", path: "/healthz" }).catch(() => undefined);
  return reply?.status === 200;
}

Deno.test("a connection serves one request after another, and is closed when idle", async () => {
  await using api = await served({ idleTimeoutMs: 1 });
  using connection = await api.connect();
  match(await reply(connection, `${HEAD}\r\n`), /^HTTP\/1.1 200 OK/);
  match(await exchange(connection, `${HEAD}\r\n`), /^HTTP\/1.1 200 OK/);
});

Deno.test("a request whose head does not end is answered, and its connection closed", async () => {
  await using api = await served({ headTimeoutMs: 10 });
  using connection = await api.connect();
  match(await exchange(connection, "GET /node_id HTTP/1.1\r\nHost: "), /^HTTP\/1.1 408 /);
});

Deno.test("bytes after a reply leave the connection with its idle limit", async () => {
  await using api = await served({ headTimeoutMs: 250, idleTimeoutMs: 250 });
  const later = async (head: string, rest: string) => {
    using connection = await api.connect();
    match(await reply(connection, `${head}\r\n`), /^HTTP\/1.1 200 OK/);
    equal(await exchange(connection, rest), "");
  };
  await Promise.all([
    later(HEAD, "\r\n"),
    later(`${HEAD}Content-Length: 1\r\n`, "1"),
    later(`${HEAD}Transfer-Encoding: chunked\r\n`, "0\r\n\r\n"),
  ]);
});

Deno.test("empty lines, however many, do not keep a connection open", async () => {
  await using api = await served({ headTimeoutMs: 250, idleTimeoutMs: 250 });
  using connection = await api.connect();
  await reply(connection, `${HEAD}\r\n`);
  let isClosed = false;
  const closed = untilClosed(connection).finally(() => isClosed = true);
  const lines = eventually("the connection is closed", async () => {
    await send(connection, "\r\n").catch(() => {});
    return isClosed;
  });
  const [text] = await Promise.all([closed, lines]);
  equal(text, "");
});

Deno.test("a request that expects what nobody knows has the limits of others", async () => {
  await using api = await served({ requestTimeoutMs: 250 });
  using connection = await api.connect();
  const text = await exchange(connection, `${HEAD}Expect: bananas\r\nContent-Length: 2\r\n\r\n1`);
  match(text, /^HTTP\/1.1 200 OK[^]*"node-1"/);
});

Deno.test("an answer that takes longer than the idle limit is sent", async () => {
  await using api = await served({ headTimeoutMs: 250, idleTimeoutMs: 250 });
  const { promise: due, resolve } = Promise.withResolvers<void>();
  const { promise: asked, resolve: onAsked } = Promise.withResolvers<void>();
  api.gateway.accept = () => (onAsked(), due);
  using connection = await api.connect();
  const body = JSON.stringify(chatOf());
  const head = `POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n` +
    `Connection: close\r\nContent-Length: ${body.length}\r\n\r\n`;
  await send(connection, head + body);
  await asked;
  // The limit of a later connection has passed once that is closed.
  using later = await api.connect();
  await untilClosed(later);
  resolve();
  match(await untilClosed(connection), /^HTTP\/1.1 200 OK[^]*"stop"/);
});

Deno.test("a body that its route ignores has a limit too, after the reply", async () => {
  await using api = await served({ requestTimeoutMs: 250 });
  const ignored = async (framing: string) => {
    using connection = await api.connect();
    const text = await exchange(connection, `${HEAD}${framing}\r\n\r\n1`);
    match(text, /^HTTP\/1.1 200 OK[^]*"node-1"/);
  };
  await Promise.all(["Content-Length: 1000", "Transfer-Encoding: chunked"].map(ignored));
});

Deno.test("a body that comes while its request has a limit leaves the connection open", async () => {
  await using api = await served({ requestTimeoutMs: 250 });
  using connection = await api.connect();
  match(await reply(connection, `${HEAD}Content-Length: 1\r\n\r\n1`), /^HTTP\/1.1 200 OK/);
  // The limit of a later request has passed once its connection is closed.
  using later = await api.connect();
  await exchange(later, `${HEAD}Content-Length: 1\r\n\r\n`);
  match(await exchange(connection, LAST), /^HTTP\/1.1 200 OK/);
});

Deno.test("a client that leaves before its body ends leaves no timer behind", {
  sanitizeOps: true,
  sanitizeResources: true,
}, async () => {
  await using api = await served({ connectionsMax: 1 });
  const connection = await api.connect();
  match(await reply(connection, `${HEAD}Content-Length: 1\r\n\r\n`), /^HTTP\/1.1 200 OK/);
  connection.close();
  await eventually("there is room again", () => answers(api.url));
});

Deno.test("what is begun for a request does not hold it", async () => {
  await using api = await served({});
  let holder: unknown;
  api.gateway.accept = () => {
    holder = executionAsyncResource();
  };
  const body = JSON.stringify(chatOf());
  await rawRequest(api.url, { method: "POST", path: "/v1/chat/completions", body });
  ok(holder);
  ok(!(holder instanceof IncomingMessage));
});

Deno.test("a whole reply that nobody reads is given up", async () => {
  // Only once the first connection is closed is there room for another.
  await using api = await served({ unreadMs: 200, connectionsMax: 1 });
  api.gateway.answer = () => [token("x".repeat(32 * MIB)), FINISH];
  const body = JSON.stringify(chatOf());
  const head = `POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n` +
    `Content-Length: ${body.length}\r\n\r\n`;
  using connection = await api.connect();
  await connection.write(new TextEncoder().encode(head + body));
  await eventually("there is room again", () => answers(api.url));
  const text = await untilClosed(connection);
  match(text, /^HTTP\/1.1 200 OK/);
  ok(text.length < 32 * MIB);
});

Deno.test("a connection too many is closed at once, and the host hears of it once", async () => {
  await using api = await served({ connectionsMax: 2 });
  {
    using _first = await api.connect();
    using _second = await api.connect();
    for (let i = 0; i < 3; i++) {
      using third = await api.connect();
      equal(await untilClosed(third), "");
    }
  }
  await eventually("there is room again", () => answers(api.url));
  equal(api.heard.length, 1);
  match(api.heard.join(), /^Cannot take another connection: 2 are open, the most possible; raise/);
});

/** A served fake node in a process of few descriptors. */
class CrowdedApi implements AsyncDisposable {
  readonly #child = new Deno.Command("sh", {
    args: ["-c", 'ulimit -n "$0"; exec "$@"', `${FEW_DESCRIPTORS}`, Deno.execPath(), ...[
      "run",
      "-A",
      "--no-check",
      CROWDED_API_MAIN,
    ]],
    stdin: "piped",
    stdout: "piped",
  }).spawn();
  readonly #stdin = this.#child.stdin.getWriter();
  readonly #lines = createInterface({ input: Readable.fromWeb(this.#child.stdout) })
    [Symbol.asyncIterator]();

  async tell(line: string): Promise<void> {
    await this.#stdin.write(new TextEncoder().encode(`${line}\n`));
  }

  async heard(): Promise<string> {
    return String((await this.#lines.next()).value);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#child.status;
    await this.#stdin.close().catch(() => {});
    await this.#lines.return?.();
  }
}

Deno.test("without a free descriptor connections wait, and are served once there is one", async () => {
  await using api = new CrowdedApi();
  const url = await api.heard();
  await api.tell("fill");
  equal(await api.heard(), "full");
  const answer = rawRequest(url, { method: "GET", path: "/healthz" });
  match(await api.heard(), /^Cannot accept a connection: Too many open files/);
  await api.tell("free");
  equal(await api.heard(), "free");
  equal((await answer).status, 200);
});

Deno.test("a flood of connections does not take all descriptors, and passes", async () => {
  await using api = new CrowdedApi();
  const url = await api.heard();
  const port = Number(new URL(url).port);
  const connect = () => Deno.connect({ hostname: "127.0.0.1", port });
  // Some are closed before they are known to be open.
  const flood = await Promise.allSettled(Array.from({ length: 3 * FEW_DESCRIPTORS }, connect));
  match(await api.heard(), /^Cannot take another connection: 32 are open, the most possible/);
  for (const one of flood) if (one.status === "fulfilled") one.value.close();
  await eventually("there is room again", () => answers(url));
});

Deno.test("connections take half of the descriptors, up to a limit", async () => {
  equal(connectionsFor(Infinity), CONNECTIONS_MAX);
  equal(connectionsFor(1_024), 512);
  equal(connectionsFor(1), 1);
  ok(await descriptorsMax() > 0);
  const text = "Max processes  1  2  processes\nMax open files   1024    524288    files\n";
  equal(parseLimits(text), 1_024);
  equal(parseLimits("Max open files   unlimited   unlimited   files\n"), Infinity);
});
