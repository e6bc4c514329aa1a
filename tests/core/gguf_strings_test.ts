import { deepEqual, equal } from "node:assert/strict";
import fc from "fast-check";
import { GgufCursor } from "../../core/gguf_cursor.ts";
import { GgufStrings } from "../../core/gguf_strings.ts";

const words = fc.array(fc.string({ unit: "grapheme" }));

Deno.test("GgufStrings gives each string at its place, and none beside the list", () => {
  fc.assert(fc.property(words, (strings) => {
    const list = GgufStrings.of(strings);
    equal(list.length, strings.length);
    deepEqual(strings.map((_, i) => list.at(i)), strings);
    deepEqual(list.toArray(), strings);
    const bytes = strings.map((_, i) => list.bytes.slice(list.starts[i], list.endOf(i)));
    deepEqual(bytes, strings.map((text) => new TextEncoder().encode(text)));
    equal(list.endOf(strings.length), NaN);
    equal(JSON.stringify(list), JSON.stringify(strings));
    for (const beside of [-1, 0.5, NaN, strings.length]) equal(list.at(beside), undefined);
  }));
});

Deno.test("GgufCursor reads a list of strings as GgufStrings, and goes on behind it", () => {
  fc.assert(fc.property(words, (strings) => {
    const cursor = new GgufCursor(fileOf(strings), "f");
    const list = cursor.value(9);
    deepEqual(list instanceof GgufStrings && list.toArray(), strings);
    equal(cursor.u32(), 7);
  }));
});

/** A list of strings as a header has it, and the number 7. */
function fileOf(strings: readonly string[]): Uint8Array {
  const parts = strings.map((text) => new TextEncoder().encode(text));
  const length = (bytes: number) => new Uint8Array(BigUint64Array.of(BigInt(bytes)).buffer);
  return Uint8Array.from([
    ...[...new Uint8Array(Uint32Array.of(8).buffer), ...length(strings.length)],
    ...parts.flatMap((part) => [...length(part.length), ...part]),
    ...new Uint8Array(Uint32Array.of(7).buffer),
  ]);
}
