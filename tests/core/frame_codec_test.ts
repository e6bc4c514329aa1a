import assert from "node:assert/strict";
import fc from "fast-check";
import { decodePrefix, encodeFrame, type Frame, FrameDecoder } from "../../core/frame_codec.ts";
import { FRAME_BYTES_MAX, FRAME_PREFIX_BYTES } from "../../core/frames.ts";

/** The frames of `bytes`, pushed in pieces that end at `cuts`. */
function decode(bytes: Uint8Array, cuts: readonly number[] = []): Frame[] {
  const decoder = new FrameDecoder();
  const ends = [...cuts, bytes.length].sort((a, b) => a - b);
  return ends.flatMap((end, i) => decoder.push(bytes.slice(i === 0 ? 0 : ends[i - 1], end)));
}

function join(...pieces: Uint8Array[]): Uint8Array {
  return Uint8Array.from(pieces.flatMap((piece) => [...piece]));
}

/** Two lengths as they stand before a frame. */
function prefix(headerBytes: number, bodyBytes: number): Uint8Array {
  const bytes = new Uint8Array(FRAME_PREFIX_BYTES);
  new DataView(bytes.buffer).setUint32(0, headerBytes, true);
  new DataView(bytes.buffer).setUint32(4, bodyBytes, true);
  return bytes;
}

const plain = ({ header, body }: Frame) => ({ header, body: [...body] });

Deno.test("a frame is two little-endian lengths, UTF-8 JSON and the body", () => {
  const bytes = encodeFrame({ ä: 1 }, Uint8Array.of(7, 8));
  const json = new TextEncoder().encode('{"ä":1}');
  assert.deepEqual(bytes, join(prefix(json.length, 2), json, Uint8Array.of(7, 8)));
});

Deno.test("the first bytes of a frame tell its length", () => {
  const bytes = encodeFrame({ a: 1 }, Uint8Array.of(7, 8));
  assert.equal(decodePrefix(bytes.subarray(0, FRAME_PREFIX_BYTES)), bytes.length);
  assert.throws(() => decodePrefix(prefix(0, 5)), /without a header/);
  assert.throws(() => decodePrefix(prefix(1, FRAME_BYTES_MAX)), /at most/);
});

const anyFrame = fc.record({
  header: fc.dictionary(fc.string({ unit: "binary" }), fc.jsonValue(), { maxKeys: 3 }),
  body: fc.uint8Array({ maxLength: 40 }),
});

Deno.test("frames survive any split of their bytes, in order", () => {
  const frames = fc.array(anyFrame, { minLength: 1, maxLength: 5 });
  const cuts = fc.array(fc.nat(1_000), { maxLength: 12 });
  fc.assert(fc.property(frames, cuts, (frames, cuts) => {
    const bytes = join(...frames.map(({ header, body }) => encodeFrame(header, body)));
    const within = cuts.map((cut) => cut % (bytes.length + 1));
    const wanted = frames.map(({ header, body }) => ({
      header: JSON.parse(JSON.stringify(header)),
      body: [...body],
    }));
    assert.deepEqual(decode(bytes, within).map(plain), wanted);
  }));
});

Deno.test("two frames survive a cut at every place, and being cut byte by byte", () => {
  const bytes = join(encodeFrame({ n: 1 }, Uint8Array.of(1, 2, 3)), encodeFrame({ n: 2 }));
  const wanted = [{ header: { n: 1 }, body: [1, 2, 3] }, { header: { n: 2 }, body: [] }];
  for (let cut = 0; cut <= bytes.length; cut++) {
    assert.deepEqual(decode(bytes, [cut]).map(plain), wanted, `cut at ${cut}`);
  }
  assert.deepEqual(decode(bytes, [...bytes.keys()]).map(plain), wanted);
});

Deno.test("a frame that has begun yields nothing until its last byte", () => {
  const bytes = encodeFrame({ n: 1 }, Uint8Array.of(1, 2, 3));
  const decoder = new FrameDecoder();
  assert.deepEqual(decoder.push(bytes.subarray(0, -1)), []);
  assert.deepEqual(decoder.push(new Uint8Array(0)), []);
  assert.equal(decoder.push(bytes.subarray(-1)).length, 1);
});

Deno.test("a frame of exactly the limit passes, one byte more is refused by both ends", () => {
  const header = JSON.stringify({});
  const room = FRAME_BYTES_MAX - FRAME_PREFIX_BYTES - header.length;
  const bytes = encodeFrame({}, new Uint8Array(room));
  assert.equal(bytes.length, FRAME_BYTES_MAX);
  assert.equal(new FrameDecoder().push(bytes)[0]?.body.length, room);
  assert.throws(() => encodeFrame({}, new Uint8Array(room + 1)), RangeError);
  const tooLong = prefix(header.length, room + 1);
  assert.throws(() => new FrameDecoder().push(tooLong), /67108865 bytes: 67108864 at most/);
});

Deno.test("a length that is garbage is refused before anything is kept for it", () => {
  const text = new TextEncoder().encode("Segmentation fault");
  assert.throws(() => new FrameDecoder().push(text), RangeError);
  assert.throws(() => new FrameDecoder().push(prefix(0xffffffff, 0xffffffff)), RangeError);
});

Deno.test("a frame without a header is refused, and said so", () => {
  assert.throws(() => new FrameDecoder().push(prefix(0, 0)), /without a header/);
  assert.throws(() => new FrameDecoder().push(prefix(0, 5)), /without a header/);
});

Deno.test("a header that is no UTF-8 or no JSON is refused", () => {
  const broken = join(prefix(2, 0), Uint8Array.of(0xff, 0xff));
  assert.throws(() => new FrameDecoder().push(broken), TypeError);
  const text = join(prefix(4, 0), new TextEncoder().encode("nope"));
  assert.throws(() => new FrameDecoder().push(text), SyntaxError);
});

Deno.test("random bytes are frames or refused, never anything else", () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
    try {
      for (const { header } of decode(bytes)) assert.notEqual(header, undefined);
    } catch (cause) {
      const known = cause instanceof RangeError || cause instanceof SyntaxError ||
        cause instanceof TypeError;
      assert.ok(known, String(cause));
    }
  }));
});
