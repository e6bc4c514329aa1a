import { join } from "node:path";
import { openGguf } from "../../engines/mlx/gguf_checkpoint.ts";
import type { Checkpoint } from "../../engines/mlx/checkpoint.ts";
import { wholeModel } from "../../engines/mlx/weight_cuts.ts";
import { dequantize, PackedMatrix, saveSafetensors, Scope, type Tensor } from "../../ffi/mod.ts";

/** Writes the model of a GGUF as a checkpoint folder, its quantised weights as the f32 they stand for. */
export async function writeDenseFolder(folder: string, gguf: string): Promise<void> {
  const checkpoint = openGguf(gguf);
  const { config, eosIds, tokenizer: { tokenizer, config: words, tables } } = checkpoint;
  const [tokens, merges] = [tables?.tokens.toArray() ?? [], tables?.merges.toArray() ?? []];
  const vocab = Object.fromEntries(tokens.map((token, id) => [token, id]));
  const model = Object.assign({}, tokenizer["model"], { vocab, merges });
  await Deno.mkdir(folder, { recursive: true });
  const write = (file: string, json: unknown) =>
    Deno.writeTextFile(join(folder, file), JSON.stringify(json));
  await write("config.json", { ...config, eos_token_id: eosIds });
  await write("tokenizer.json", { ...tokenizer, model });
  await write("tokenizer_config.json", words);
  using _scope = new Scope();
  saveSafetensors(join(folder, "model.safetensors"), denseWeights(checkpoint));
}

function denseWeights({ config, quantizationOf, openWeights }: Checkpoint): Map<string, Tensor> {
  using source = openWeights(false, wholeModel(Number(config["num_hidden_layers"])));
  const stored = new Map(source.entries.map(({ name, load }) => [name, requireTensor(load())]));
  const dense = new Map<string, Tensor>();
  for (const [name, weight] of stored) {
    if (!name.endsWith(".weight")) continue;
    const path = name.slice(0, -".weight".length);
    const [scales, biases] = [stored.get(`${path}.scales`), stored.get(`${path}.biases`)];
    const parts = scales && { weight, scales, ...(biases ? { biases } : {}) };
    const whole = parts ? dequantize(parts, quantizationOf(path)) : weight;
    dense.set(name, whole.astype("float32"));
  }
  return dense;
}

function requireTensor(weight: Tensor | PackedMatrix): Tensor {
  if (weight instanceof PackedMatrix) throw new Error("weights for MLX are not packed");
  return weight;
}
