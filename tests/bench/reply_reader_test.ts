import { deepEqual, throws } from "node:assert/strict";
import { ReplyReader } from "../../bench/reply_reader.ts";

/** A reply in chunks whose borders fall within lines and within a character. */
function chunkedReply(lines: readonly string[], chunkBytes: number): Uint8Array {
  const body = new TextEncoder().encode(lines.map((line) => `${line}\n`).join(""));
  const parts: Uint8Array[] = [
    new TextEncoder().encode("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
  ];
  for (let at = 0; at < body.length; at += chunkBytes) {
    const chunk = body.subarray(at, at + chunkBytes);
    parts.push(new TextEncoder().encode(`${chunk.length.toString(16)}\r\n`), chunk);
    parts.push(new TextEncoder().encode("\r\n"));
  }
  return new Uint8Array([...parts, new TextEncoder().encode("0\r\n\r\n")].flatMap((part) => [
    ...part,
  ]));
}

Deno.test("ReplyReader gives the same lines wherever chunks and reads end", () => {
  const lines = ['data: {"a":"ü"}', "", "data: [DONE]", ""];
  for (const chunkBytes of [1, 7, 12, 100]) {
    const reply = chunkedReply(lines, chunkBytes);
    for (const readBytes of [1, 3, 64, reply.length]) {
      const reader = new ReplyReader();
      const found: string[] = [];
      for (let at = 0; at < reply.length; at += readBytes) {
        found.push(...reader.lines(reply.subarray(at, at + readBytes)));
      }
      deepEqual(found, lines, `chunks of ${chunkBytes}, reads of ${readBytes}`);
    }
  }
});

Deno.test("ReplyReader takes a body that is not chunked", () => {
  const reply = new TextEncoder().encode("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\na\nb\nc");
  deepEqual([...new ReplyReader().lines(reply)], ["a", "b"]);
});

Deno.test("ReplyReader throws what a server says that refuses", () => {
  const reply = new TextEncoder().encode('HTTP/1.1 429 Busy\r\n\r\n{"error":"later"}');
  throws(() => [...new ReplyReader().lines(reply)], /Cannot read an answer: found "HTTP.*later/);
});
