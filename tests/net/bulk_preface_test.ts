import assert from "node:assert/strict";
import {
  decodePreface,
  decodeResult,
  decodeRound,
  encodePreface,
  encodeResult,
  encodeRound,
  PREFACE_BYTES,
} from "../../net/bulk_preface.ts";

const TOKEN = "01234567-89ab-4cde-8f01-23456789abcd";

Deno.test("a preface is the magic word and a token, and nothing else is one", () => {
  const preface = encodePreface(TOKEN);
  assert.equal(preface.length, PREFACE_BYTES);
  assert.equal(decodePreface(preface), TOKEN);
  assert.throws(() => encodePreface("short"), RangeError);
  assert.throws(() => encodePreface("é".repeat(20)), RangeError);
  const others = [
    preface.subarray(1),
    new Uint8Array([...preface, 0]),
    preface.with(0, 0x65),
    preface.with(20, 0x80),
    new Uint8Array(),
  ];
  for (const other of others) assert.equal(decodePreface(other), undefined);
});

Deno.test("a round has no more bytes than it may", () => {
  for (const bytes of [0, 1, 2 ** 20, 2 ** 53 - 1]) {
    assert.equal(decodeRound(encodeRound(bytes), bytes), bytes);
  }
  assert.equal(decodeRound(encodeRound(11), 10), undefined);
  assert.equal(decodeRound(new Uint8Array(8).fill(255), 2 ** 53), undefined);
});

Deno.test("a result that cannot be one is none", () => {
  const result = { bytes: 10, elapsedMs: 0.5 };
  assert.deepEqual(decodeResult(encodeResult(result), 10), result);
  const wrong = [
    { bytes: 11, elapsedMs: 1 },
    { bytes: -1, elapsedMs: 1 },
    { bytes: 0.5, elapsedMs: 1 },
    { bytes: NaN, elapsedMs: 1 },
    { bytes: 1, elapsedMs: -1 },
    { bytes: 1, elapsedMs: NaN },
    { bytes: 1, elapsedMs: Infinity },
  ];
  for (const one of wrong) assert.equal(decodeResult(encodeResult(one), 10), undefined);
});
