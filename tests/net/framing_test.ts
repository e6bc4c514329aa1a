import assert from "node:assert/strict";
import fc from "fast-check";
import { frame, FrameReader } from "../../net/framing.ts";
import { rejects } from "../support/rejects.ts";

function joined(parts: readonly Uint8Array[]): Uint8Array {
  return Uint8Array.from(parts.flatMap((part) => [...part]));
}

Deno.test("frames are read as they were written, however their bytes are cut", () => {
  const bodies = fc.array(fc.uint8Array({ maxLength: 40 }), { maxLength: 8 });
  fc.assert(fc.property(bodies, fc.array(fc.integer({ min: 1, max: 17 }), { minLength: 1 }), (
    written,
    cuts,
  ) => {
    const reader = new FrameReader(100);
    const bytes = joined(written.flatMap((body, at) => frame(at, body)));
    const read: Uint8Array[] = [];
    for (let at = 0, turn = 0; at < bytes.length; turn++) {
      const end = at + (cuts[turn % cuts.length] ?? 1);
      read.push(...reader.push(bytes.subarray(at, end)));
      at = end;
    }
    assert.deepEqual(read.map(([kind]) => kind), written.map((_, at) => at));
    assert.deepEqual(read.map((one) => one.slice(1)), written);
  }));
});

Deno.test("a large body is written as it is, a small one behind its header", () => {
  const large = new Uint8Array(64 * 1024 + 1);
  const [head, body] = frame(7, large);
  assert.deepEqual(head, Uint8Array.of(2, 0, 1, 0, 7));
  assert.equal(body, large);
  assert.deepEqual(frame(7, Uint8Array.of(9)), [Uint8Array.of(2, 0, 0, 0, 7, 9)]);
  assert.deepEqual(frame(7), [Uint8Array.of(1, 0, 0, 0, 7)]);
});

Deno.test("a frame that says it is longer than the limit is refused before it has come", () => {
  const reader = new FrameReader(10);
  assert.equal(reader.push(frame(0, new Uint8Array(9))[0] as Uint8Array).length, 1);
  const found = /found a frame of 11 bytes, 10 at most/;
  rejects(() => reader.push(Uint8Array.of(11, 0, 0, 0)), "payload_too_large", found);
});

Deno.test("a frame that comes byte by byte is held in few pieces", () => {
  const length = 5_000;
  const bytes = joined(frame(3, Uint8Array.from({ length }, (_, at) => at % 251)));
  const reader = new FrameReader(10_000);
  const read = [...bytes].flatMap((byte) => {
    const frames = reader.push(Uint8Array.of(byte));
    assert.ok(reader.pieceCount <= 1_024, `${reader.pieceCount} pieces`);
    return frames;
  });
  assert.deepEqual(read, [bytes.slice(4)]);
});
