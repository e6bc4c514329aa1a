import assert from "node:assert/strict";
import { AppError, type ErrorCode } from "../../core/errors.ts";
import { ModelId } from "../../core/ids.ts";
import { EventLog } from "../../node/event_log.ts";
import { ModelStore } from "../../node/model_store.ts";
import { tinyCheckpoint } from "../support/checkpoint.ts";
import { TempDir } from "../support/temp_dir.ts";

/** A store in a directory of its own, with a tiny checkpoint folder in it. */
async function world() {
  const dir = await TempDir.make();
  const folder = `${dir.path}/My Model`;
  await tinyCheckpoint(folder);
  const log = EventLog.open(dir.path);
  return {
    dir: dir.path,
    folder,
    store: new ModelStore(log),
    [Symbol.asyncDispose]: async () => {
      log.close();
      await dir[Symbol.asyncDispose]();
    },
  };
}

async function failsWith(promise: Promise<unknown>, code: ErrorCode): Promise<void> {
  await assert.rejects(promise, (thrown) => {
    assert.ok(thrown instanceof AppError, String(thrown));
    assert.equal(thrown.code, code);
    return true;
  });
}

Deno.test("a model is registered where it lies, and known under its id", async () => {
  await using here = await world();
  const { modelCard, totalBytes } = await here.store.add(here.folder);
  assert.match(modelCard.modelId, /^local\/my-model-[0-9a-f]{8}$/);
  assert.equal(here.store.path(modelCard.modelId), here.folder);
  const status = await here.store.status(modelCard.modelId);
  assert.deepEqual(status, { type: "DownloadCompleted", totalBytes, readOnly: true });
});

Deno.test("forgetting a model leaves its files", async () => {
  await using here = await world();
  const { modelCard } = await here.store.add(here.folder);
  here.store.forget(modelCard.modelId);
  assert.equal(here.store.path(modelCard.modelId), undefined);
  assert.ok((await Deno.stat(`${here.folder}/model.safetensors`)).isFile);
});

Deno.test("a model that is unknown, gone or cut short cannot be loaded", async () => {
  await using here = await world();
  const unknown = await here.store.status(ModelId.parse("local/other"));
  assert.ok(unknown.type === "DownloadFailed");
  assert.match(unknown.errorMessage, /local\/other is not on this node: exo models add PATH/);
  // A path that is added gets an id of its own, so for a hub's id that would be no help.
  const hub = await here.store.status(ModelId.parse("org/other"));
  assert.ok(hub.type === "DownloadFailed");
  assert.match(hub.errorMessage, /the files of org\/other, .* then exo run PATH/);
  const { modelCard } = await here.store.add(here.folder);
  await Deno.truncate(`${here.folder}/model.safetensors`, 60);
  const cut = await here.store.status(modelCard.modelId);
  assert.equal(cut.type, "DownloadFailed");
  await Deno.remove(here.folder, { recursive: true });
  const gone = await here.store.status(modelCard.modelId);
  assert.ok(gone.type === "DownloadFailed");
  assert.match(gone.errorMessage, /My Model/);
});

Deno.test("a path must be absolute, and what is refused is not registered", async () => {
  await using here = await world();
  await failsWith(here.store.add("models/tiny"), "invalid_request");
  await failsWith(here.store.add(`${here.dir}/missing`), "not_found");
  await failsWith(here.store.add(here.dir), "unsupported_model");
});

Deno.test("the same files at another place are the same model at the new place", async () => {
  await using here = await world();
  const first = await here.store.add(here.folder);
  const moved = `${here.dir}/elsewhere/My Model`;
  await Deno.mkdir(`${here.dir}/elsewhere`);
  await Deno.rename(here.folder, moved);
  const second = await here.store.add(moved);
  assert.equal(second.modelCard.modelId, first.modelCard.modelId);
  assert.equal(here.store.path(first.modelCard.modelId), moved);
});
