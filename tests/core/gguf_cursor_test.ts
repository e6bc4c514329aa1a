import { deepEqual, equal, throws } from "node:assert/strict";
import { GgufCursor, type GgufValue, ShortRead } from "../../core/gguf_cursor.ts";

const bytesOf = (array: { readonly buffer: ArrayBufferLike }) => [...new Uint8Array(array.buffer)];
const u32 = (value: number) => bytesOf(Uint32Array.of(value));
const u64 = (value: number | bigint) => bytesOf(BigUint64Array.of(BigInt(value)));
const text = (value: string) => [...u64(value.length), ...new TextEncoder().encode(value)];
const cursorOver = (...bytes: number[]) => new GgufCursor(Uint8Array.from(bytes), "f.gguf");

const [U8, STRING, ARRAY] = [0, 8, 9];

/** A list of one list of one … value, so many levels deep. */
function nested(levels: number): number[] {
  const inner = levels === 1 ? [...u32(U8), ...u64(1), 7] : nested(levels - 1);
  return levels === 1 ? inner : [...u32(ARRAY), ...u64(1), ...inner];
}

Deno.test("GgufCursor reads a value of each type, and goes on behind it", () => {
  const rows: readonly (readonly [type: number, bytes: number[], value: GgufValue])[] = [
    [0, [255], 255],
    [1, [255], -1],
    [2, bytesOf(Uint16Array.of(65_535)), 65_535],
    [3, bytesOf(Int16Array.of(-2)), -2],
    [4, bytesOf(Uint32Array.of(4_000_000_000)), 4_000_000_000],
    [5, bytesOf(Int32Array.of(-3)), -3],
    [6, bytesOf(Float32Array.of(0.5)), 0.5],
    [7, [1], true],
    [7, [0], false],
    [STRING, text("abc"), "abc"],
    [ARRAY, [...u32(U8), ...u64(2), 1, 2], [1, 2]],
    [10, bytesOf(BigUint64Array.of(5n)), 5],
    [11, bytesOf(BigInt64Array.of(-5n)), -5],
    [12, bytesOf(Float64Array.of(0.1)), 0.1],
  ];
  for (const [type, bytes, value] of rows) {
    const cursor = cursorOver(...bytes, ...u32(77));
    deepEqual(cursor.value(type), value, `type ${type}`);
    equal(cursor.u32(), 77, `behind type ${type}`);
  }
  throws(() => cursorOver(1).value(13), {
    code: "corrupt_model",
    message: /a metadata value has type 13, 0 to 12 expected/,
  });
});

Deno.test("GgufCursor reads lists in lists, to a depth", () => {
  deepEqual(cursorOver(...nested(3)).value(ARRAY), [[[7]]]);
  throws(() => cursorOver(...nested(4)).value(ARRAY), {
    code: "corrupt_model",
    message: /metadata arrays are over 3 levels deep, 3 at most expected/,
  });
});

Deno.test("GgufCursor names a size beyond its limit, in full", () => {
  equal(cursorOver(...u64(2 ** 40)).size(2 ** 40, "the count"), 2 ** 40);
  throws(() => cursorOver(...u64(2n ** 64n - 1n)).size(9, "the count"), {
    code: "corrupt_model",
    message: /the count is 18446744073709551615, at most 9 expected/,
  });
});

Deno.test("GgufCursor asks for more where a value, or a list of texts, goes on", () => {
  throws(() => cursorOver(1, 2, 3).u32(), ShortRead);
  throws(() => cursorOver(...u64(3), 65).string(), ShortRead);
  // A list that claims more texts than the bytes can hold reserves nothing for them.
  throws(() => cursorOver(...u32(STRING), ...u64(2), ...text("")).value(ARRAY), ShortRead);
});
