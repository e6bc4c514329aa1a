import assert from "node:assert/strict";
import { formatBytes, GIB, KIB, MIB, Millis, parseBytes } from "../../core/units.ts";

Deno.test("formatBytes() uses binary units with one decimal", () => {
  assert.equal(formatBytes(0), "0 B");
  assert.equal(formatBytes(1_023), "1023 B");
  assert.equal(formatBytes(KIB), "1.0 KiB");
  assert.equal(formatBytes(92 * MIB), "92.0 MiB");
  assert.equal(formatBytes(1.5 * GIB), "1.5 GiB");
});

Deno.test("formatBytes() never shows 1024 of a unit", () => {
  assert.equal(formatBytes(MIB - 1), "1.0 MiB");
  assert.equal(formatBytes(GIB - 1), "1.0 GiB");
  for (let bytes = MIB - 100; bytes <= MIB; bytes++) {
    assert.doesNotMatch(formatBytes(bytes), /1024\.0/, `${bytes}`);
  }
});

Deno.test("a date is whole milliseconds since 1970", () => {
  assert.equal(Millis.parse(0), 0);
  for (const wrong of [-1, 1.5, NaN, Infinity]) assert.throws(() => Millis.parse(wrong));
});

Deno.test("parseBytes() reads what people write, binary and decimal", () => {
  const read = { "8GiB": 8 * GIB, "1.5 gib": 1.5 * GIB, "512MiB": 512 * MIB, "8GB": 8e9 };
  const plain = { "8589934592": 8 * GIB, "0": 0, " 12 B ": 12, "1TiB": KIB * GIB, "1.1": 1 };
  for (const [text, bytes] of Object.entries({ ...read, ...plain })) {
    assert.equal(parseBytes(text), bytes, text);
  }
});

Deno.test("parseBytes() takes nothing else for an amount", () => {
  for (const text of ["", "GiB", "-1", "8 GiBs", "1e9", "8G", "all", "1,5GiB", "99999999TiB"]) {
    assert.equal(parseBytes(text), undefined, text);
  }
});
