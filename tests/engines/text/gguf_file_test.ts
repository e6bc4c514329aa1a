import { deepEqual, equal, throws } from "node:assert/strict";
import { join } from "node:path";
import type { GgufHeader, GgufValue } from "../../../core/gguf.ts";
import { configFromGguf, readGgufHeader } from "../../../engines/text/gguf_file.ts";
import { TempDir } from "../../support/temp_dir.ts";
import { goldenPath } from "../golden.ts";

const PATH = goldenPath("models/tiny-gguf.gguf");

function withMetadata(changes: Record<string, GgufValue>): GgufHeader {
  const header = readGgufHeader(PATH);
  return { ...header, metadata: new Map([...header.metadata, ...Object.entries(changes)]) };
}

Deno.test("readGgufHeader() reads a header longer than what it tries first", async () => {
  await using dir = await TempDir.make();
  const path = join(dir.path, "long.gguf");
  await Deno.writeFile(path, fileWithString(5 * 1024 * 1024));
  const header = readGgufHeader(path);
  equal((header.metadata.get("k") as string).length, 5 * 1024 * 1024);
});

/** A GGUF without tensors whose one metadata value is a string of so many bytes. */
function fileWithString(bytes: number): Uint8Array {
  const file = new Uint8Array(4 + 4 + 8 + 8 + 9 + 4 + 8 + bytes).fill(0x61);
  const view = new DataView(file.buffer);
  file.set(new TextEncoder().encode("GGUF"));
  view.setUint32(4, 3, true);
  view.setBigUint64(8, 0n, true); // Tensors.
  view.setBigUint64(16, 1n, true); // Metadata entries.
  view.setBigUint64(24, 1n, true); // The key's length.
  file[32] = "k".charCodeAt(0);
  view.setUint32(33, 8, true); // A string.
  view.setBigUint64(37, BigInt(bytes), true);
  return file;
}

Deno.test("readGgufHeader() says what it cannot read", async () => {
  await using dir = await TempDir.make();
  throws(() => readGgufHeader(join(dir.path, "gone.gguf")), {
    code: "load_failed",
    message: 'Cannot read "gone.gguf": there is no such file or folder, one needed',
  });
  await Deno.writeFile(join(dir.path, "empty.gguf"), new Uint8Array());
  throws(() => readGgufHeader(join(dir.path, "empty.gguf")), { code: "corrupt_model" });
});

Deno.test("configFromGguf() takes linear rope scaling and refuses what we do not know", () => {
  const linear = withMetadata({
    "llama.rope.scaling.type": "linear",
    "llama.rope.scaling.factor": 4,
  });
  deepEqual(configFromGguf(linear, "f")["rope_scaling"], { rope_type: "linear", factor: 4 });
  const refused = (changes: Record<string, GgufValue>, message: RegExp) =>
    throws(() => configFromGguf(withMetadata(changes), "f"), {
      code: "unsupported_model",
      message,
    });
  refused({ "llama.rope.scaling.type": "yarn" }, /rope scaling "yarn"/);
  refused({ "llama.expert_count": 8 }, /it has 8 experts, none needed/);
  refused({ "llama.attention.head_count_kv": [1, 2] }, /KV heads in each layer/);
});
