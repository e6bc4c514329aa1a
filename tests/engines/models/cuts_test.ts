import { deepEqual, equal, ok, throws } from "node:assert/strict";
import { join } from "node:path";
import { openCheckpoint } from "../../../engines/mlx/checkpoint.ts";
import { openWeights } from "../../../engines/mlx/loader.ts";
import { FOLDER_WORDING } from "../../../engines/mlx/wording.ts";
import { weightCuts } from "../../../engines/models/mod.ts";
import type { ModelPart } from "../../../engines/models/part.ts";
import { ensureSetup } from "../../../ffi/mod.ts";
import { stagesOf } from "../../support/model_parts.ts";
import { type RandomLlama, randomLlama } from "../../support/random_llama.ts";
import { TempDir } from "../../support/temp_dir.ts";
import { goldenPath, loadModel } from "../golden.ts";

await ensureSetup();

const slice = (rank: number, size: number): ModelPart => ({
  type: "slice",
  ...{ rank, size, sum: (x) => x },
});

const { config: TIED } = openCheckpoint(goldenPath("models/tiny-tied"));

/** What a part of the tiny tied model has of a tensor: 4 heads of 16 on 2, 96 features, 320 ids. */
function cutOf(name: string, part: ModelPart, group = 1) {
  const options = { part, groupOf: () => group, wording: FOLDER_WORDING };
  return weightCuts(TIED, options).of(name);
}

const LAYER = "model.layers.1";

Deno.test("a slice has whole heads, and the features of the MLP in whole groups", () => {
  const range = (from: number, to: number) => ({ from, to });
  const last = slice(1, 2);
  deepEqual(cutOf(`${LAYER}.self_attn.q_proj.weight`, last), { outputs: range(32, 64) });
  deepEqual(cutOf(`${LAYER}.self_attn.k_proj.bias`, last), { outputs: range(16, 32) });
  deepEqual(cutOf(`${LAYER}.self_attn.o_proj.weight`, last), { inputs: range(32, 64) });
  deepEqual(cutOf(`${LAYER}.mlp.up_proj.weight`, last, 32), { outputs: range(32, 96) });
  deepEqual(cutOf(`${LAYER}.mlp.down_proj.scales`, last, 32), { inputs: range(32, 96) });
  deepEqual(cutOf(`${LAYER}.mlp.down_proj.weight`, last, 1), { inputs: range(48, 96) });
  deepEqual(cutOf(`${LAYER}.input_layernorm.weight`, last), {});
  deepEqual(cutOf("model.embed_tokens.weight", last), {});
  const split: ModelPart = { ...last, splitsVocabulary: true } as ModelPart;
  deepEqual(cutOf("model.embed_tokens.weight", split), { outputs: range(160, 320) });
});

Deno.test("the bias of a sum is added by the first rank alone", () => {
  deepEqual(cutOf(`${LAYER}.self_attn.o_proj.bias`, slice(0, 2)), {});
  equal(cutOf(`${LAYER}.self_attn.o_proj.bias`, slice(1, 2)), undefined);
});

Deno.test("a stage has its layers and ends, and what has no place in any", () => {
  const [first, last] = stagesOf([1, 1]);
  ok(first && last);
  equal(cutOf(`${LAYER}.mlp.up_proj.weight`, first), undefined);
  deepEqual(cutOf(`${LAYER}.mlp.up_proj.weight`, last), {});
  deepEqual(cutOf("model.embed_tokens.weight", last), {}); // Its head, which is tied.
  equal(cutOf("lm_head.weight", last), undefined);
  equal(cutOf("model.norm.weight", first), undefined);
  deepEqual(cutOf("model.layers.2.mlp.up_proj.weight", first), {});
  deepEqual(cutOf("visual.patch_embed.weight", first), {});
});

/** What is said to a slice of a random llama, before anything of it is read. */
async function refused(llama: RandomLlama, part: ModelPart, message: RegExp): Promise<void> {
  await using dir = await TempDir.make();
  const checkpoint = openCheckpoint(await randomLlama(join(dir.path, "llama"), llama));
  for (const isPacked of [true, false]) {
    throws(() => openWeights(checkpoint, part, isPacked), (error) => {
      const { code, hint = "" } = error as { code?: string; hint?: string };
      equal(code, "unsupported_model");
      ok(message.test(String(error)), String(error));
      ok(hint.includes("pipeline"), hint);
      return true;
    });
  }
}

Deno.test("openWeights() refuses slices that would cut heads or quantisation groups apart", async () => {
  await refused({}, slice(0, 3), /over 3 ranks .* 8 heads and 4 KV heads, a multiple of 3/);
  const wide = { quantized: { groupSize: 64, bits: 4 }, config: { intermediate_size: 192 } };
  await refused(
    wide,
    slice(1, 4),
    /"model.layers.0.self_attn.o_proj.weight" over 4 ranks: rank 1 gets its columns 32 to 64, whole groups of 64/,
  );
  const narrow = { quantized: { groupSize: 32, bits: 4 }, config: { intermediate_size: 96 } };
  await refused(narrow, slice(0, 4), /"model.layers.0.mlp.down_proj.weight" .* whole groups of 32/);
});

Deno.test("a part refuses tensors without a place in the model, and names those it lacks", async () => {
  await using dir = await TempDir.make();
  const path = await randomLlama(join(dir.path, "llama")); // Five layers.
  const config = JSON.parse(await Deno.readTextFile(join(path, "config.json")));
  const says = async (layers: number, part: ModelPart) => {
    const changed = { ...config, num_hidden_layers: layers };
    await Deno.writeTextFile(join(path, "config.json"), JSON.stringify(changed));
    try {
      loadModel(path, { part }).weights[Symbol.dispose]();
    } catch (error) {
      return String(error);
    }
    return "nothing";
  };
  for (const part of [...stagesOf([2, 2]), slice(1, 2)]) {
    ok(/a place in it, such as "model\.layers\.4\./.test(await says(4, part)), part.type);
  }
  const [first, last] = stagesOf([3, 3]);
  ok(first && last);
  equal(await says(6, first), "nothing");
  ok(/no tensor "model\.layers\.5\./.test(await says(6, last)));
  ok(/no tensor "model\.layers\.5\./.test(await says(6, slice(1, 2))));
});
