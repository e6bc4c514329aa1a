import { deepEqual, equal, throws } from "node:assert/strict";
import type { GgufValue } from "../../core/gguf.ts";
import { GgufMetadata, show } from "../../core/gguf_metadata.ts";
import { GgufStrings } from "../../core/gguf_strings.ts";

function metadataOf(values: Readonly<Record<string, GgufValue>>): GgufMetadata {
  const metadata = new Map(Object.entries(values));
  const header = { version: 3, metadata, tensors: [], dataOffset: 0, alignment: 32 };
  return new GgufMetadata(header, "f.gguf");
}

const LLAMA = { "general.architecture": "llama" };

Deno.test("GgufMetadata has a value by its type alone", () => {
  const words = GgufStrings.of(["a"]);
  const values = { text: "t", count: 2, yes: false, words, lengths: [1, 2], mixed: [1, "a"] };
  const metadata = metadataOf(values);
  const found = (look: (key: string) => unknown) =>
    Object.keys(values).filter((key) => look(key) !== undefined);
  deepEqual(found((key) => metadata.string(key)), ["text"]);
  deepEqual(found((key) => metadata.number(key)), ["count"]);
  deepEqual(found((key) => metadata.boolean(key)), ["yes"]);
  deepEqual(found((key) => metadata.strings(key)), ["words"]);
  deepEqual(found((key) => metadata.numbers(key)), ["lengths"]);
  equal(metadata.boolean("yes"), false);
  deepEqual(metadata.numbers("lengths"), [1, 2]);
});

Deno.test("GgufMetadata counts from 1 on in whole numbers", () => {
  equal(metadataOf({ n: 1 }).count("n"), 1);
  for (const [n, shown] of [[0, "0"], [1.5, "1.5"], ["many", '"many"']] as const) {
    throws(() => metadataOf({ n }).count("n"), {
      code: "corrupt_model",
      message: `Cannot read "f.gguf": its n is ${shown}, a whole number from 1 on expected`,
    });
  }
  throws(() => metadataOf({}).count("n"), { message: /its n is missing/ });
});

Deno.test("GgufMetadata asks for an architecture", () => {
  equal(metadataOf(LLAMA).architecture, "llama");
  throws(() => metadataOf({ "general.architecture": 1 }).architecture, {
    code: "corrupt_model",
    message: /its metadata has no general.architecture, a name expected/,
  });
});

Deno.test("GgufMetadata takes the length of a head from what says it most plainly", () => {
  const heads = { ...LLAMA, "llama.embedding_length": 100, "llama.attention.head_count": 3 };
  equal(metadataOf(heads).headDim, 33);
  const rope = { ...heads, "llama.rope.dimension_count": 32 };
  equal(metadataOf(rope).headDim, 32);
  equal(metadataOf({ ...rope, "llama.attention.key_length": 64 }).headDim, 64);
  equal(metadataOf(heads).kvHeads, 3);
  equal(metadataOf({ ...heads, "llama.attention.head_count_kv": 1 }).kvHeads, 1);
});

Deno.test("show() is short, and says what is missing", () => {
  equal(show(undefined), "missing");
  equal(show("a".repeat(100)).length, 60);
});
