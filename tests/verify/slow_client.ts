/** A client that asks and reads nothing until it is told to. */
import assert from "node:assert/strict";
import type { ClusterNode } from "../support/cluster_node.ts";
import { eventually, within } from "../support/eventually.ts";
import { tcpSockets } from "../support/tcp_sockets.ts";

/** What of an answer that is wrong is told, of its beginning and of its end. */
const TOLD_CHARS = 4_096;

/** How long the rest of an answer may take once it is read. */
const REST_MS_MAX = 60_000;

/** How long it may take until no more of an answer can be sent. */
const FULL_MS_MAX = 60_000;

/** Looks, 10 ms apart, without a change after which a connection is at rest. */
const QUIET_LOOKS = 100;

/** What is asked for: an answer that fills both ends of a connection, and more. */
export interface LongQuestion {
  readonly model: string;
  readonly content: string;
  /** Tokens of each answer. */
  readonly tokens: number;
  readonly answers: number;
}

/** Bytes that the system holds of an answer. */
interface HeldBytes {
  /** At the server's end, of what it cannot send. */
  readonly unsent: number;
  /** At the client's end, of what it has not read. */
  readonly unread: number;
}

/** A client that has asked a node, on a connection of its own. */
export class SlowClient implements Disposable {
  readonly #node: ClusterNode;
  readonly #question: LongQuestion;
  readonly #connection: Deno.TcpConn;

  private constructor(node: ClusterNode, question: LongQuestion, connection: Deno.TcpConn) {
    this.#node = node;
    this.#question = question;
    this.#connection = connection;
  }

  /** Asks for a long answer, and takes nothing of it: the system and the node hold what comes. */
  static async ask(node: ClusterNode, question: LongQuestion): Promise<SlowClient> {
    const { hostname, port } = new URL(node.client.url);
    const connection = await Deno.connect({ hostname, port: Number(port) });
    const body = JSON.stringify({
      ...{ model: question.model, stream: true, ignore_eos: true, n: question.answers },
      ...{ max_completion_tokens: question.tokens, logprobs: true, top_logprobs: 20 },
      messages: [{ role: "user", content: question.content }],
    });
    const head = [
      ...["POST /v1/chat/completions HTTP/1.1", `Host: ${hostname}:${port}`, "Connection: close"],
      ...["Content-Type: application/json", `Content-Length: ${body.length}`],
    ];
    const rest = new TextEncoder().encode(`${head.join("\r\n")}\r\n\r\n${body}`);
    for (let at = 0; at < rest.length;) at += await connection.write(rest.subarray(at));
    return new SlowClient(node, question, connection);
  }

  /** Resolves once something has come that nobody has read. */
  async untilSpokenTo(): Promise<void> {
    await eventually(
      "a slow client is sent something",
      async () => (await this.#held()).unread > 0,
    );
  }

  /**
   * Resolves once the system has long taken no more of the server's, since the client reads nothing;
   * with how much it holds.
   */
  async untilBlocked(): Promise<HeldBytes> {
    let held: HeldBytes = { unsent: 0, unread: 0 };
    let quietLooks = 0;
    await eventually("a slow client can be sent no more", async () => {
      const now = await this.#held();
      const isSame = now.unsent === held.unsent && now.unread === held.unread;
      const isFull = now.unsent > 0 && now.unread > 0;
      quietLooks = isSame && isFull ? quietLooks + 1 : 0;
      held = now;
      return quietLooks >= QUIET_LOOKS;
    }, FULL_MS_MAX).catch((cause) => {
      throw new Error(`${cause.message}: ${held.unsent} unsent, ${held.unread} unread`, { cause });
    });
    return held;
  }

  /** @throws unless the client is as it was: it has read nothing, and can be sent nothing. */
  async requireBlocked(before: HeldBytes): Promise<void> {
    assert.deepEqual(await this.#held(), before, "a slow client can be sent no more");
  }

  /** Reads a stream to its end; with how many bytes it was. @throws unless all answers end well. */
  async readToEnd(): Promise<number> {
    const { text, bytes } = await this.#readRest();
    const got = `a slow client got ${text.slice(0, TOLD_CHARS)} … ${text.slice(-TOLD_CHARS)}`;
    assert.match(text, STREAM_BEGIN, got);
    assert.match(text.slice(-TOLD_CHARS), STREAM_END, got);
    assert.equal(text.match(/"finish_reason":"length"/g)?.length, this.#question.answers, got);
    return bytes;
  }

  /** Reads what a node that has no instance ready says at once. @throws unless it is an error. */
  async readRefusal(): Promise<void> {
    const { text } = await this.#readRest();
    assert.match(text, /^HTTP\/1\.1 [45]\d\d .*\r\n\r\n\{"error":\{.*\}\s*$/s);
  }

  /** Hangs up, where it has not read to the end: all that came stays unread. */
  [Symbol.dispose](): void {
    this.#connection[Symbol.dispose]();
  }

  async #readRest() {
    const all = new Response(this.#connection.readable).bytes();
    const bytes = await within("the rest of a slow client's answer", all, REST_MS_MAX);
    return { text: new TextDecoder().decode(bytes), bytes: bytes.length };
  }

  /** Both ends are on one machine: what the server cannot send is seen beside what is not read. */
  async #held(): Promise<HeldBytes> {
    const [here, there] = [this.#connection.localAddr.port, this.#connection.remoteAddr.port];
    const sockets = await tcpSockets(this.#node.process.pid);
    const client = sockets.find((one) => one.port === here && one.remotePort === there);
    const server = sockets.find((one) => one.port === there && one.remotePort === here);
    return { unsent: server?.unsentBytes ?? 0, unread: client?.unreadBytes ?? 0 };
  }
}

/** The first that a node says of a stream. */
const STREAM_BEGIN = /^HTTP\/1\.1 200 /;

/** The last that a stream says, and the end of its last chunk. */
const STREAM_END = /data: \[DONE\]\s+0\r\n\r\n$/;
