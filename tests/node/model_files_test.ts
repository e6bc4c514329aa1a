import assert from "node:assert/strict";
import { AppError, type ErrorCode } from "../../core/errors.ts";
import { inspectModel } from "../../node/model_files.ts";
import { safetensors, tinyCheckpoint } from "../support/checkpoint.ts";
import { TempDir } from "../support/temp_dir.ts";

const GGUF = new URL("../golden/models/tiny-gguf.gguf", import.meta.url).pathname;
const SHARDED = new URL("../golden/models/tiny-sharded", import.meta.url).pathname;

async function failsWith(path: string, code: ErrorCode, message: RegExp): Promise<void> {
  await assert.rejects(inspectModel(path), (thrown) => {
    assert.ok(thrown instanceof AppError, String(thrown));
    assert.equal(thrown.code, code, thrown.message);
    assert.match(thrown.message, message);
    return true;
  });
}

Deno.test("a GGUF file says what it holds; all of it counts", async () => {
  const { modelCard, totalBytes } = await inspectModel(GGUF);
  assert.equal(totalBytes, (await Deno.stat(GGUF)).size);
  assert.equal(modelCard.architecture, "llama");
  assert.equal(modelCard.storageSize.inBytes, totalBytes);
  assert.match(modelCard.modelId, /^local\/[a-z0-9.-]+-[0-9a-f]{8}$/);
});

Deno.test("a folder says what it holds, in one file of weights or in several", async () => {
  await using dir = await TempDir.make();
  await tinyCheckpoint(dir.path);
  const { modelCard, totalBytes } = await inspectModel(dir.path);
  assert.equal(totalBytes, (await Deno.stat(`${dir.path}/model.safetensors`)).size);
  assert.equal(modelCard.nLayers, 2);
  assert.equal(modelCard.contextLength, 128);
  const sharded = await inspectModel(SHARDED);
  const sizes = await Promise.all(
    [1, 2].map((n) => Deno.stat(`${SHARDED}/model-0000${n}-of-00002.safetensors`)),
  );
  assert.equal(sharded.totalBytes, sizes.reduce((sum, { size }) => sum + size, 0));
});

Deno.test("the id follows name and headers: another config is another model", async () => {
  await using dir = await TempDir.make();
  const folder = `${dir.path}/tiny`;
  await tinyCheckpoint(folder);
  const first = await inspectModel(folder);
  assert.equal((await inspectModel(folder)).modelCard.modelId, first.modelCard.modelId);
  await Deno.writeTextFile(`${folder}/tokenizer.json`, '{"other": 1}');
  const second = await inspectModel(folder);
  assert.notEqual(second.modelCard.modelId, first.modelCard.modelId);
});

Deno.test("what is missing is said by name", async () => {
  await using dir = await TempDir.make();
  await failsWith(`${dir.path}/missing.gguf`, "not_found", /missing\.gguf/);
  await failsWith(dir.path, "unsupported_model", /found no config\.json/);
  await tinyCheckpoint(dir.path);
  await Deno.remove(`${dir.path}/model.safetensors`);
  await failsWith(dir.path, "unsupported_model", /found no model\*\.safetensors/);
});

Deno.test("a shard that the index names and the folder lacks is said by name", async () => {
  await using dir = await TempDir.make();
  await tinyCheckpoint(dir.path);
  const index = { weight_map: { "model.norm.weight": "model-00001-of-00002.safetensors" } };
  await Deno.writeTextFile(`${dir.path}/model.safetensors.index.json`, JSON.stringify(index));
  await failsWith(dir.path, "corrupt_model", /found no "model-00001-of-00002\.safetensors"/);
});

Deno.test("a pipe is refused at once, and a folder in a file's place is corrupt", async () => {
  await using dir = await TempDir.make();
  const pipe = `${dir.path}/pipe.gguf`;
  assert.ok((await new Deno.Command("mkfifo", { args: [pipe] }).output()).success);
  await failsWith(pipe, "unsupported_model", /found a device or pipe/);
  await Deno.mkdir(`${dir.path}/model/config.json`, { recursive: true });
  await failsWith(`${dir.path}/model`, "corrupt_model", /config\.json.*needed/);
});

Deno.test("a file of another kind is refused, pickle included", async () => {
  await using dir = await TempDir.make();
  for (const name of ["model.bin", "notes.txt", "model.safetensors"]) {
    await Deno.writeFile(`${dir.path}/${name}`, safetensors({}));
    await failsWith(`${dir.path}/${name}`, "unsupported_model", /found a file that ends in "\..*"/);
  }
});

Deno.test("files cut short or filled with garbage are corrupt", async () => {
  await using dir = await TempDir.make();
  const gguf = `${dir.path}/model.gguf`;
  const { size } = await Deno.stat(GGUF);
  for (const bytes of [0, 3, 20, 1_000, size >> 1, size - 1]) {
    await Deno.copyFile(GGUF, gguf);
    await Deno.truncate(gguf, bytes);
    await failsWith(gguf, "corrupt_model", /model\.gguf/);
  }
  await Deno.writeTextFile(gguf, "not a model ".repeat(100));
  await failsWith(gguf, "corrupt_model", /model\.gguf/);
  const folder = `${dir.path}/folder`;
  for (const bytes of [0, 7, 30]) {
    await tinyCheckpoint(folder);
    await Deno.truncate(`${folder}/model.safetensors`, bytes);
    await failsWith(folder, "corrupt_model", /model\.safetensors/);
  }
  await tinyCheckpoint(folder);
  await Deno.writeTextFile(`${folder}/config.json`, "{");
  await failsWith(folder, "corrupt_model", /config\.json/);
});
