import { join } from "node:path";

/** Writes a llama checkpoint folder that is well-formed and as small as can be. */
export async function tinyCheckpoint(
  folder: string,
  changes: Readonly<Record<string, unknown>> = {},
): Promise<void> {
  await Deno.mkdir(folder, { recursive: true });
  const config = {
    model_type: "llama",
    num_hidden_layers: 2,
    hidden_size: 8,
    num_attention_heads: 2,
    num_key_value_heads: 1,
    max_position_embeddings: 128,
    ...changes,
  };
  await Deno.writeTextFile(join(folder, "config.json"), JSON.stringify(config));
  await Deno.writeTextFile(join(folder, "tokenizer.json"), "{}");
  await Deno.writeFile(
    join(folder, "model.safetensors"),
    safetensors({ "model.norm.weight": { shape: [8], data: new Float32Array(8) } }),
  );
}

/** The bytes of a safetensors file with these f32 tensors. */
export function safetensors(
  tensors: Readonly<Record<string, { shape: readonly number[]; data: Float32Array }>>,
): Uint8Array {
  let at = 0;
  const header: Record<string, unknown> = {};
  for (const [name, { shape, data }] of Object.entries(tensors)) {
    header[name] = { dtype: "F32", shape, data_offsets: [at, at + data.byteLength] };
    at += data.byteLength;
  }
  const json = new TextEncoder().encode(JSON.stringify(header));
  const bytes = new Uint8Array(8 + json.length + at);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(json.length), true);
  bytes.set(json, 8);
  at = 8 + json.length;
  for (const { data } of Object.values(tensors)) {
    bytes.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), at);
    at += data.byteLength;
  }
  return bytes;
}
