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
  ],
  inputs: [
    { cache: 3, offset: 60, count: 2, logitsCount: 1, draw: { ...DRAW, topLogprobs: 2 } },
    { cache: 4, offset: 0, count: 3, logitsCount: 0, ids: [1, 2, 3] },
    { cache: 5, offset: 9, count: 1, logitsCount: 1, draw: DRAW },
  ],
  ...{ returns: true, blocksMax: null },
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
  failure: {
    error: { code: "internal" as const, message: "Cannot … “this”", hint: "wait" },
    isLost: true,
  },
};

/** Header and body as they arrive, at some place of a larger buffer. */
function joined(header: Uint8Array, body: Uint8Array, at = 0): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(at + header.length + body.length);
  bytes.set(header, at);
  bytes.set(body, at + header.length);
  return bytes.subarray(at);
}

Deno.test("Frames say the same after their way, to the bit, wherever they lie in memory", () => {
  const rows = Float32Array.of(1 / 3, -0, Infinity, 1e-42);
  for (const header of [STEP, OUTCOME]) {
    for (const at of [0, 1, 3]) {
      const read = decodeFrame(joined(encodeHeader(header), bodyOf(rows), at), "node");
      deepEqual(read.header, { version: 1, ...header });
      deepEqual(read.rows, rows);
    }
    equal(decodeFrame(encodeHeader(header), "node").rows.length, 0);
  }
});

Deno.test("decodeFrame() refuses nonsense and other versions, and says who sent it", () => {
  const refused = (bytes: Uint8Array<ArrayBuffer>, found: RegExp) =>
    throws(() => decodeFrame(bytes, "studio"), { code: "group_broken", message: found });
  const text = (json: string) => {
    const bytes = new TextEncoder().encode(json);
    return joined(new Uint8Array(Uint32Array.of(bytes.length).buffer), bytes);
  };
  refused(new Uint8Array(0), /on "studio", sent 0 bytes/);
  refused(new Uint8Array(3), /sent 3 bytes/);
  refused(Uint8Array.of(255, 255, 255, 255, 1), /sent 5 bytes/);
  refused(text("{"), /a header with/);
  refused(text("[]"), /a header with/);
  const { version: _, ...rest } = { version: 1, ...STEP, inputs: [] };
  refused(text(JSON.stringify({ ...rest, version: 2 })), /version/);
  refused(text(JSON.stringify({ ...rest, version: 1, serial: -1 })), /serial/);
  refused(joined(encodeHeader(STEP), new Uint8Array(6)), /a body of 6 bytes/);
});

Deno.test("decodeFrame() reads or refuses whatever comes, and never fails otherwise", () => {
  const whole = joined(encodeHeader(STEP), bodyOf(Float32Array.of(1, 2)));
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
