import { deepEqual, equal, match } from "node:assert/strict";
import { cardOf, TINY } from "../support/fake_gateway.ts";
import { bundledCard } from "../support/model_cards.ts";
import { FakeNode } from "./fake_io.ts";

const QWEN = "mlx-community/Qwen3-30B-A3B-4bit";

/** Puts cards of exo's own onto the disk of a node. */
function bundle({ gateway }: FakeNode, ...ids: readonly string[]): void {
  for (const id of ids) gateway.bundle(bundledCard(id));
}

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
  match((await node.run(["models", "list"])).stderr, /No models here; exo models add PATH/);
  node.gateway.addCard(cardOf());
  const view = {
    modelId: TINY,
    storageBytes: 92 * 2 ** 20,
    quantization: "",
    family: "",
    contextLength: 2048,
    tasks: ["TextGeneration"],
    license: "",
    architecture: "",
    isSupported: true,
    isCustom: true,
    isBundled: false,
    isPlaced: false,
    downloadedOn: ["node-1"],
  };
  deepEqual(await node.json(["models", "list"]), [view]);
  deepEqual(await node.json(["models", "show", "tiny"]), {
    ...view,
    baseModel: "",
    layers: 30,
    hiddenSize: 576,
    kvHeads: null,
    kvBytesPerToken: null,
    capabilities: [],
    reasoningDialect: "none",
    backends: ["MlxCpu"],
    supportsTensor: false,
    samplingDefaults: null,
    isGated: false,
    tested: null,
  });
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

Deno.test("models list shows what is at hand, and tells of the cards that exo has", async () => {
  await using node = await FakeNode.start();
  bundle(node, QWEN, "mlx-community/gpt-oss-20b-MXFP4-Q8");
  node.gateway.addCard(cardOf());
  const ids = async (...flags: string[]) =>
    (await node.json(["models", "list", ...flags]) as { modelId: string }[])
      .map(({ modelId }) => modelId);
  deepEqual(await ids(), [TINY]);
  deepEqual(await ids("--downloaded"), [TINY]);
  deepEqual(await ids("--all"), [TINY, QWEN, "mlx-community/gpt-oss-20b-MXFP4-Q8"]);
  deepEqual(await ids("--all", "--downloaded"), [TINY]);
  deepEqual(await ids("--family", "QWEN"), [QWEN]);
  deepEqual(await ids("--family", "qwen", "--downloaded"), []);
  const { stdout, stderr } = await node.run(["models", "list"]);
  match(stdout, /^MODEL +SIZE +QUANTIZATION +CONTEXT +PLACED +CARD\nlocal\/tiny.* no +own\n$/);
  match(stderr, /exo has cards of 2 more: .*--all, or --family with one of gpt-oss, qwen\n/);
  equal((await node.run(["models", "list", "--all"])).stderr, "");
  match((await node.run(["models", "list", "--all"])).stdout, /Qwen3-30B.* 32768 +no +bundled/);
});

Deno.test("models list --family names the families when there is no such one", async () => {
  await using node = await FakeNode.start();
  const none = await node.run(["models", "list", "--family", "bert"]);
  equal(none.code, 4);
  match(none.stderr, /family "bert": found no model of it, .*\n.*exo models add PATH/);
  bundle(node, QWEN, "mlx-community/gpt-oss-20b-MXFP4-Q8");
  match((await node.run(["models", "list", "--family", "bert"])).stderr, /one of gpt-oss, qwen/);
});

Deno.test("models show tells all that a card says, and what no engine runs yet", async () => {
  await using node = await FakeNode.start();
  bundle(node, QWEN, "meta-llama/Llama-3.2-1B-Instruct", "HuggingFaceTB/SmolLM2-135M-Instruct");
  const { stdout } = await node.run(["models", "show", "qwen3-30b"]);
  for (
    const line of [
      "runs here      no engine of this version knows qwen3_moe",
      "tested         no",
      "layers         48, 2048 wide",
      "KV heads       4",
      "KV of a token  192.0 KiB unquantised",
      "capabilities   text, thinking, thinking_toggle",
      "sharding       pipeline, tensor",
      "backends       MlxMetal, MlxCuda, MlxCpu",
      "sampling       temperature 0.6, topP 0.95, topK 20, minP 0; " +
      "nonThinking: temperature 0.7, topP 0.8, topK 20, minP 0",
      "license        apache-2.0",
      "card           bundled",
      "files on       no node",
    ]
  ) equal(stdout.split("\n").find((found) => found === line), line);
  const gated = await node.run(["models", "show", "meta-llama/Llama-3.2-1B-Instruct"]);
  match(gated.stdout, /license +llama3.2, to be accepted at its publisher/);
  match(gated.stdout, /runs here +yes/);
  const tested = await node.json(["models", "show", "SmolLM2-135M-Instruct"]);
  equal((tested as { tested: string }).tested, "as GGUF in Q4_1, on CPU");
});

Deno.test("models show and list tell of a card that comes before exo's own", async () => {
  await using node = await FakeNode.start();
  bundle(node, QWEN, "exolabs/FLUX.1-dev");
  node.gateway.addCard(cardOf(QWEN));
  match((await node.run(["models", "list"])).stdout, /Qwen3-30B.*own, shadows bundled/);
  match((await node.run(["models", "show", QWEN])).stdout, /card +own, shadows bundled/);
  const image = await node.run(["models", "show", "FLUX.1-dev"]);
  match(image.stdout, /runs here +no engine of this version makes pictures/);
});

Deno.test("a bundled model is not removed, and the hint says why", async () => {
  await using node = await FakeNode.start();
  bundle(node, QWEN);
  const { code, stderr } = await node.run(["models", "remove", QWEN]);
  equal(code, 4);
  match(stderr, /comes with exo, and stays/);
});
