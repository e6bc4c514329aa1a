import { deepEqual, equal, throws } from "node:assert/strict";
import fc from "fast-check";
import { bodyOf, decodeFrame, encodeHeader } from "../../../engines/group/step_frame.ts";

const DRAW = {
  ...{ seed: 2n ** 64n - 1n, index: 3, temperature: 0.1, topP: 1 / 3, topK: 0, minP: 0 },
  ...{ repetitionPenalty: 1.1, adjustments: Float64Array.of(5, 1, -Infinity, 7, 0, 1 / 3) },
};
const STEP = {
  type: "step" as const,
  serial: 7,
  operations: [
    { type: "make" as const, cache: 1 },
    { type: "make" as const, cache: 3, prefix: { shares: [null, 2], positions: 60 } },
    { type: "share" as const, share: 2, cache: 1, index: 0 },
    { type: "giveBack" as const, share: 2 },
    { type: "free" as const, cache: 1 },
    { type: "reserve" as const, cache: 3, count: 7 },
    { type: "advance" as const, cache: 3, count: 7 },
  ],
  inputs: [
    { cache: 3, offset: 60, count: 2, logitsCount: 1, draw: { ...DRAW, topLogprobs: 2 } },
    { cache: 4, offset: 0, count: 3, logitsCount: 0, ids: [1, 2, 3] },
    { cache: 5, offset: 9, count: 1, logitsCount: 1, draw: DRAW },
  ],
  ...{ returns: true, blocksMax: null, weights: "5eed", kv: "paged/q8/32" },
};
const OUTCOME = {
  type: "outcome" as const,
  serial: 8,
  drawn: [
    { id: 4, logprob: -0.1, top: [{ id: 4, logprob: -0.1 }, { id: 2, logprob: -Infinity }] },
    null,
    { id: -1 },
  ],
  blocksMax: 12,
  kv: "paged/q8/32",
  failure: {
    error: { code: "internal" as const, message: "Cannot … “this”", hint: "wait" },
    isLost: true,
  },
};

const READ = { type: "read" as const, layer: 9, shares: [2, 5, 3] };
const WRITE = { type: "write" as const, layer: 0, cache: 3, count: 4 };

/** Header and body as they arrive, at some place of a larger buffer. */
function joined(header: Uint8Array, body: Uint8Array, at = 0): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(at + header.length + body.length);
  bytes.set(header, at);
  bytes.set(body, at + header.length);
  return bytes.subarray(at);
}

Deno.test("Frames say the same after their way, to the bit, wherever they lie in memory", () => {
  const rows = Float32Array.of(1 / 3, -0, Infinity, 1e-42);
  const moves = [READ, WRITE].map((move) => ({ ...STEP, inputs: [], move }));
  for (const header of [STEP, OUTCOME, ...moves]) {
    for (const at of [0, 1, 3]) {
      const read = decodeFrame(joined(encodeHeader(header), bodyOf(rows), at), "node");
      deepEqual(read.header, header);
      deepEqual(read.rows, rows);
    }
    equal(decodeFrame(encodeHeader(header), "node").rows.length, 0);
  }
});

Deno.test("decodeFrame() refuses nonsense and other versions, and says who sent it", () => {
  const refused = (bytes: Uint8Array<ArrayBuffer>, found: RegExp) =>
    throws(() => decodeFrame(bytes, "studio"), { code: "group_broken", message: found });
  /** A header of these numbers and this text. */
  const header = (numbers: readonly number[], text = "") => {
    const bytes = new TextEncoder().encode(text.padEnd(Math.ceil(text.length / 4) * 4));
    const lengths = new Uint8Array(Uint32Array.of(numbers.length, bytes.length).buffer);
    return joined(joined(lengths, new Uint8Array(Float64Array.from(numbers).buffer)), bytes);
  };
  const [version, step, serial, blocks, returns] = [3, 0, 7, -1, 1];
  equal(
    decodeFrame(header([version, step, serial, blocks, returns, 0, 0, 0]), "studio").rows.length,
    0,
  );
  refused(new Uint8Array(0), /on "studio", sent 0 bytes/);
  refused(new Uint8Array(7), /sent 7 bytes/);
  refused(Uint8Array.of(255, 255, 255, 255, 1, 0, 0, 0, 0), /sent 9 bytes/);
  refused(header([]), /a header with 0 numbers/);
  refused(header([2, step, serial, blocks, returns, 0, 0]), /version 2, a frame of version 3/);
  refused(header([version, 2]), /2 as number 2/);
  refused(header([version, step, -1]), /-1 as number 3/);
  refused(header([version, step, 0.5]), /0.5 as number 3/);
  refused(header([version, step, NaN]), /NaN as number 3/);
  refused(header([version, step, serial, blocks, returns, 9]), /0 numbers where 9 were named/);
  refused(header([version, step, serial, blocks, returns, 0, 0, 3]), /3 as number 8/);
  refused(header([version, step, serial, blocks, returns, 0, 0, 1, 0, 2, 4]), /1 numbers where 2/);
  refused(header([version, step, serial, blocks, returns, 5_000]), /5000 as number 6/);
  refused(header([version, step, serial, blocks, returns, 0, 0, 0, 0]), /1 numbers too many/);
  const texts = ["{", "[]", '{"failure":{}}', '{"weights":7}', '{"kv":""}'];
  for (const text of texts) {
    refused(header([version, 1, serial, blocks, 0], text), /a text that says nothing/);
  }
  refused(joined(encodeHeader(STEP), new Uint8Array(6)), /a body of 6 bytes/);
});

Deno.test("decodeFrame() reads or refuses whatever comes, and never fails otherwise", () => {
  const header = { ...STEP, move: READ };
  const whole = joined(encodeHeader(header), bodyOf(Float32Array.of(1, 2)));
  const changes = fc.array(fc.tuple(fc.nat(whole.length - 1), fc.nat(255)), { maxLength: 4 });
  fc.assert(
    fc.property(changes, fc.nat(whole.length), (places, length) => {
      const bytes = whole.slice();
      for (const [at, value] of places) bytes[at] = value;
      try {
        decodeFrame(bytes.slice(0, length), "node");
      } catch (error) {
        equal((error as { code?: string }).code, "group_broken", String(error));
      }
    }),
    { numRuns: 2_000, seed: 4 },
  );
});
