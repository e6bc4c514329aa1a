/** A client that asks and reads nothing until it is told to. */
import assert from "node:assert/strict";
import { within } from "../support/eventually.ts";

/** What of an answer is kept: its end tells how it ended. */
const TAIL_CHARS = 4_096;

/** How long the rest of an answer may take once it is read. */
const REST_MS_MAX = 60_000;

export interface SlowClient {
  /** Reads all there is. @throws unless it ends as an answer does: in full, or with an error. */
  readToEnd(): Promise<void>;
}

/** Asks for a long answer, and takes nothing of it: the system and the node hold what comes. */
export async function askSlowly(
  url: string,
  question: { readonly model: string; readonly tokens: number },
): Promise<SlowClient> {
  const { hostname, port } = new URL(url);
  const connection = await Deno.connect({ hostname, port: Number(port) });
  const body = JSON.stringify({
    ...{ model: question.model, stream: true, ignore_eos: true },
    // Each token with others beside it takes some kilobytes.
    ...{ max_completion_tokens: question.tokens, logprobs: true, top_logprobs: 20 },
    messages: [{ role: "user", content: "go on and on" }],
  });
  const head = [
    ...["POST /v1/chat/completions HTTP/1.1", `Host: ${hostname}:${port}`, "Connection: close"],
    ...["Content-Type: application/json", `Content-Length: ${body.length}`],
  ];
  await connection.write(new TextEncoder().encode(`${head.join("\r\n")}\r\n\r\n${body}`));
  return {
    async readToEnd() {
      using _ = connection;
      await within("the rest of a slow client's answer", readRest(connection), REST_MS_MAX);
    },
  };
}

async function readRest(connection: Deno.Conn): Promise<void> {
  const buffer = new Uint8Array(1_048_576);
  const decoder = new TextDecoder();
  let [head, tail] = ["", ""];
  while (true) {
    const count = await connection.read(buffer);
    if (count === null) break;
    tail += decoder.decode(buffer.subarray(0, count), { stream: true });
    if (head === "") head = tail.slice(0, TAIL_CHARS);
    tail = tail.slice(-TAIL_CHARS);
  }
  const end = head.includes("text/event-stream") ? STREAM_END : ERROR_END;
  const got = `a slow client got ${head} … ${tail}`;
  assert.match(tail, end, got);
  assert.match(tail, /"finish_reason":"\w+"|"error":/, got);
}

/** The last that a stream says, and the end of its last chunk. */
const STREAM_END = /data: \[DONE\]\s+0\r\n\r\n$/;

/** Where there is nobody to answer, a reply says so at once. */
const ERROR_END = /\r\n\r\n\{"error":\{.*\}\s*$/s;
