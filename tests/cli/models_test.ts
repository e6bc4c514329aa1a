import { deepEqual, equal, match } from "node:assert/strict";
import { cardOf, TINY } from "../support/fake_gateway.ts";
import { FakeNode } from "./fake_io.ts";

Deno.test("models add sends the absolute path and prints the model's id", async () => {
  await using node = await FakeNode.start();
  node.gateway.files.set("/work/here/tiny.gguf", cardOf());
  deepEqual(await node.json(["models", "add", "./tiny.gguf"]), { modelId: TINY });
  const missing = await node.run(["models", "add", "../other.gguf"]);
  equal(missing.code, 4);
  match(missing.stderr, /"\/work\/other\.gguf"/);
});

Deno.test("models list and show tell of models in words and as JSON", async () => {
  await using node = await FakeNode.start();
  match((await node.run(["models", "list"])).stderr, /No models; exo models add PATH/);
  node.gateway.addCard(cardOf());
  const view = {
    modelId: TINY,
    storageBytes: 92 * 2 ** 20,
    quantization: "",
    family: "",
    contextLength: 2048,
    tasks: ["TextGeneration"],
    isCustom: true,
    isPlaced: false,
    downloadedOn: ["node-1"],
  };
  deepEqual(await node.json(["models", "list"]), [view]);
  deepEqual(await node.json(["models", "show", "tiny"]), view);
  match((await node.run(["models", "list"])).stdout, /local\/tiny-0123abcd +92\.0 MiB/);
  match((await node.run(["models", "show", "tiny"])).stdout, /context +2048 tokens/);
  equal((await node.run(["models", "show", "nope"])).code, 4);
});

Deno.test("models remove forgets a model, and says which instance keeps it", async () => {
  await using node = await FakeNode.start();
  const instanceId = node.gateway.placeModel();
  const used = await node.run(["models", "remove", "tiny"]);
  equal(used.code, 1);
  match(used.stderr, new RegExp(`hint: exo instance delete ${instanceId}`));
  await node.json(["instance", "delete", instanceId]);
  deepEqual(await node.json(["models", "remove", "tiny"]), { modelId: TINY });
  equal((await node.run(["models", "remove", "tiny"])).code, 4);
});
