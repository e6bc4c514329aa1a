import assert from "node:assert/strict";
import fc from "fast-check";
import { TailBuffer } from "../../node/tail_buffer.ts";

const bytes = (text: string) => new TextEncoder().encode(text);

Deno.test("the last lines are kept, oldest first, with what was begun and not ended", () => {
  const tail = new TailBuffer(2);
  assert.deepEqual(tail.push(bytes("a\nb\nc\nd")), ["a", "b", "c"]);
  assert.deepEqual(tail.lines(), ["b", "c", "d"]);
  assert.deepEqual(tail.push(bytes("e\n")), ["de"]);
  assert.deepEqual(tail.lines(), ["c", "de"]);
  assert.deepEqual(new TailBuffer(2).lines(), []);
});

Deno.test("lines and characters survive any split of their bytes", () => {
  const text = fc.array(fc.string({ unit: "grapheme" }), { maxLength: 6 })
    .map((lines) => lines.map((line) => line.replaceAll("\n", "")).join("\n") + "\n");
  fc.assert(fc.property(text, fc.integer({ min: 1, max: 5 }), (text, step) => {
    const all = bytes(text);
    const tail = new TailBuffer(100);
    for (let at = 0; at < all.length; at += step) tail.push(all.subarray(at, at + step));
    assert.deepEqual(tail.lines(), text.split("\n").slice(0, -1));
  }));
});

Deno.test("a flood is kept in bounded memory, with newlines or without", () => {
  const tail = new TailBuffer(20);
  const flood = bytes("x".repeat(64 * 1024));
  for (let n = 0; n < 100; n++) tail.push(flood);
  assert.equal(tail.lines().length, 1);
  assert.equal(tail.lines()[0]?.length, 2_000);
  const lines = bytes("y".repeat(3_000) + "\n" + "z\n".repeat(10_000));
  for (let n = 0; n < 10; n++) tail.push(lines);
  assert.deepEqual(tail.lines(), new Array(20).fill("z"));
});

Deno.test("bytes that are no text are kept as replacement characters", () => {
  const tail = new TailBuffer(2);
  tail.push(Uint8Array.of(0xff, 0x41, 0x0a));
  assert.deepEqual(tail.lines(), ["\ufffdA"]);
});
