import assert from "node:assert/strict";
import { join } from "node:path";
import * as mx from "../../ffi/mod.ts";
import { close, noise, range, scoped } from "./support.ts";

function inFolder(body: (folder: string) => void): void {
  const folder = Deno.makeTempDirSync({ prefix: "exo-ffi-" });
  try {
    body(folder);
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
}

scoped("safetensors make the round trip with every type, odd names and metadata", () => {
  inFolder((folder) => {
    const path = join(folder, "päth with spaces.safetensors");
    const data = noise(12).map((x) => Math.abs(x));
    const tensors = new Map(
      mx.DTYPES.filter((dtype) => dtype !== "float64") // Which MLX does not save.
        .map((dtype) => [`layers.0.${dtype} ü`, mx.fromArray(data, [3, 4]).astype(dtype)]),
    );
    const metadata = { format: "mlx", "ключ": 'quoted "value"\nand a line' };
    mx.saveSafetensors(path, tensors, metadata);
    const file = mx.loadSafetensors(path);
    assert.deepEqual(Object.fromEntries(file.metadata), metadata);
    assert.deepEqual([...file.tensors.keys()].sort(), [...tensors.keys()].sort());
    for (const [name, tensor] of tensors) {
      const loaded = file.tensors.get(name);
      assert.deepEqual([loaded?.dtype, loaded?.shape], [tensor.dtype, tensor.shape]);
      assert.deepEqual(loaded?.toArray(), tensor.toArray());
    }
  });
});

scoped("a file without metadata has none, and a record of tensors is as good as a map", () => {
  inFolder((folder) => {
    const path = join(folder, "x.safetensors");
    mx.saveSafetensors(path, { x: mx.ones([2]) });
    const { tensors, metadata } = mx.loadSafetensors(path);
    assert.deepEqual([...tensors.keys(), ...metadata.keys()], ["x"]);
  });
});

scoped("loaded tensors belong to the scope they are loaded in", () => {
  inFolder((folder) => {
    const path = join(folder, "x.safetensors");
    mx.saveSafetensors(path, { a: mx.ones([2]), b: mx.ones([2]) });
    const start = mx.liveArrays();
    {
      using _scope = new mx.Scope();
      assert.equal(mx.loadSafetensors(path).tensors.size, 2);
    }
    assert.equal(mx.liveArrays(), start);
  });
});

/** A GGUF file of version 3 without metadata. Source: ggml's docs/gguf.md. */
function gguf(tensors: { name: string; dims: number[]; type: number; data: Uint8Array }[]) {
  const bytes: number[] = [];
  const integer = (value: number, size: number) => {
    for (let i = 0; i < size; i++) bytes.push(Math.floor(value / 256 ** i) % 256);
  };
  const align = () => {
    while (bytes.length % 32 !== 0) bytes.push(0);
  };
  bytes.push(...new TextEncoder().encode("GGUF"));
  integer(3, 4);
  integer(tensors.length, 8);
  integer(0, 8);
  let offset = 0;
  for (const { name, dims, type, data } of tensors) {
    integer(name.length, 8);
    bytes.push(...new TextEncoder().encode(name));
    integer(dims.length, 4);
    for (const length of dims) integer(length, 8);
    integer(type, 4);
    integer(offset, 8);
    offset += Math.ceil(data.length / 32) * 32;
  }
  align();
  for (const { data } of tensors) {
    bytes.push(...data);
    align();
  }
  return Uint8Array.from(bytes);
}

const HALF = [0x00, 0x38]; // 0.5 as float16, little-endian.

scoped("GGUF tensors load by name, quantised ones in MLX's own form", () => {
  inFolder((folder) => {
    const path = join(folder, "tiny.gguf");
    const plain = Float32Array.from(range(6));
    const codes = range(16).map((i) => i | (15 - i) << 4); // Low nibbles are the first half.
    const file = gguf([
      { name: "norm.weight", dims: [3, 2], type: 0, data: new Uint8Array(plain.buffer) },
      { name: "q4.weight", dims: [32, 1], type: 2, data: Uint8Array.from([...HALF, ...codes]) },
      {
        name: "q8.weight",
        dims: [32, 1],
        type: 8,
        data: Uint8Array.from([...HALF, ...range(32).map((i) => i - 16)]),
      },
    ]);
    Deno.writeFileSync(path, file);
    const tensors = mx.loadGguf(path);
    const get = (name: string) => tensors.get(name) ?? assert.fail(`no ${name}`);
    assert.deepEqual(get("norm.weight").shape, [2, 3]);
    close(get("norm.weight"), plain);
    const restore = (name: string, bits: number) => {
      const [weight, scales, biases] = ["weight", "scales", "biases"].map((x) =>
        get(`${name}.${x}`)
      );
      assert.ok(weight && scales && biases);
      return mx.dequantize({ weight, scales, biases }, { groupSize: 32, bits });
    };
    close(restore("q4", 4), range(32).map((i) => 0.5 * ((i < 16 ? i : 31 - i) - 8)));
    close(restore("q8", 8), range(32).map((i) => 0.5 * (i - 16)));
  });
});

scoped("files that are missing or malformed are refused by name", () => {
  inFolder((folder) => {
    const missing = join(folder, "missing.safetensors");
    assert.throws(() => mx.loadSafetensors(missing), {
      name: "NativeError",
      message:
        `Cannot run shim_load_safetensors: [load_safetensors] Failed to open file ${missing}`,
    });
    const wrong = join(folder, "wrong.gguf");
    Deno.writeTextFileSync(wrong, "not a model");
    assert.throws(() => mx.loadGguf(wrong), /shim_load_gguf: \[load_gguf\]/);
    assert.throws(() => mx.loadSafetensors(wrong), /shim_load_safetensors: \[load_safetensors\]/);
    const nowhere = join(folder, "no", "x.safetensors");
    assert.throws(() => mx.saveSafetensors(nowhere, { x: mx.ones([1]) }), /Failed to open/);
  });
});
