import { deepEqual, equal, match } from "node:assert/strict";
import type { ModelDetails, ModelObject } from "../../api/models.ts";
import { ModelId } from "../../core/ids.ts";
import { cardOf, TINY } from "../support/fake_gateway.ts";
import { bundledCard } from "../support/model_cards.ts";
import { appOver, errorOf } from "./requests.ts";

const listed = async (response: Response) =>
  (await response.json() as { data: ModelObject[] }).data.map(({ id }) => id);

Deno.test("GET /models and /v1/models list models as OpenAI does, with a stable date", async () => {
  const { gateway, get } = appOver();
  gateway.addCard(cardOf());
  const [first, second] = await Promise.all([get("/models"), get("/v1/models")]);
  const text = await first.text();
  equal(text, await second.text());
  const { object, data: [model] } = JSON.parse(text);
  equal(object, "list");
  equal(model.object, "model");
  equal(model.created, 1_735_689_600);
  equal(model.name, "tiny-0123abcd");
  deepEqual(model.downloaded_on, ["node-1"]);
  equal(model.running, false);
});

Deno.test("GET /v1/models filters by what is downloaded, and refuses other filters", async () => {
  const { gateway, get } = appOver();
  gateway.addCard(cardOf());
  gateway.emit({ type: "CustomModelCardAdded", modelCard: cardOf("org/elsewhere") });
  deepEqual(await listed(await get("/v1/models")), [TINY, "org/elsewhere"]);
  deepEqual(await listed(await get("/v1/models?status=downloaded")), [TINY]);
  equal((await errorOf(await get("/v1/models?status=x"))).code, 400);
});

Deno.test("GET /v1/models/{id} takes ids with slashes, encoded or not, and prefixes", async () => {
  const { gateway, get } = appOver();
  gateway.placeModel();
  for (const id of [TINY, encodeURIComponent(TINY), "tiny", "local/ti"]) {
    const model = await (await get(`/v1/models/${id}`)).json() as ModelObject;
    equal(model.id, TINY);
    equal(model.running, true);
  }
});

Deno.test("GET /v1/models/{id} suggests what may have been meant", async () => {
  const { gateway, get } = appOver();
  gateway.addCard(cardOf("org/llama-3.2-1b"));
  gateway.addCard(cardOf("org/llama-3.2-3b"));
  const hint = async (id: string) => (await errorOf(await get(`/v1/models/${id}`))).hint ?? "";
  match(await hint("llama-3"), /could be org\/llama-3.2-1b, org\/llama-3.2-3b/);
  match(await hint("lama-3.2-1b"), /did you mean org\/llama-3.2-1b/);
  match(await hint("zzz"), /known models:/);
});

Deno.test("POST /models/add registers an absolute path for a client of this machine", async () => {
  const { gateway, app, post } = appOver();
  gateway.files.set("/models/tiny.gguf", cardOf());
  const model = await (await post("/models/add", { path: "/models/tiny.gguf" })).json();
  equal((model as ModelObject).id, TINY);
  const body = JSON.stringify({ path: "/models/tiny.gguf" });
  const remote = { remoteAddress: "192.168.0.9" };
  const foreign = await app.request("/models/add", { method: "POST", body }, remote);
  equal(foreign.status, 403);
  match((await errorOf(foreign)).message, /192\.168\.0\.9/);
});

Deno.test("POST /models/add trusts whoever has shown the API key", async () => {
  const { gateway, app } = appOver({ apiKey: "k" });
  gateway.files.set("/models/tiny.gguf", cardOf());
  const init = {
    method: "POST",
    body: JSON.stringify({ path: "/models/tiny.gguf" }),
    headers: { "x-api-key": "k" },
  };
  const response = await app.request("/models/add", init, { remoteAddress: "192.168.0.9" });
  equal(response.status, 200);
});

Deno.test("POST /models/add says what is wrong with what it is given", async () => {
  const { post } = appOver();
  const error = async (body: object) => await errorOf(await post("/models/add", body));
  equal((await error({ path: "relative.gguf" })).param, "path");
  equal((await error({ path: "/nothing" })).exo_code, "not_found");
  equal((await error({ model_id: "org/name" })).exo_code, "unsupported_parameter");
  equal((await error({})).param, "path");
});

Deno.test("DELETE /models/custom/{id} forgets a model, unless an instance uses it", async () => {
  const { gateway, send } = appOver();
  gateway.addCard(cardOf());
  const gone = await send("DELETE", `/models/custom/${TINY}`);
  deepEqual(await gone.json(), { message: "Model card deleted", model_id: TINY });
  const missing = await send("DELETE", `/models/custom/${TINY}`);
  equal((await errorOf(missing)).message, "Custom model card not found");
  gateway.placeModel();
  equal((await send("DELETE", `/models/custom/${encodeURIComponent(TINY)}`)).status, 409);
});

Deno.test("GET /v1/models lists what runs first, then what is here, then exo's cards", async () => {
  const { gateway, get } = appOver();
  gateway.bundle(bundledCard("mlx-community/Qwen3-0.6B-4bit"));
  gateway.bundle(bundledCard("mlx-community/Qwen3-0.6B-8bit"));
  gateway.emit({ type: "CustomModelCardAdded", modelCard: cardOf("org/elsewhere") });
  gateway.addCard(cardOf("org/here"));
  gateway.placeModel();
  deepEqual(await listed(await get("/v1/models")), [
    TINY,
    "org/here",
    "org/elsewhere",
    "mlx-community/Qwen3-0.6B-4bit",
    "mlx-community/Qwen3-0.6B-8bit",
  ]);
});

Deno.test("image models are listed where the node says so, and found by their names", async () => {
  const id = "exolabs/FLUX.1-dev";
  for (const showsImageModels of [false, true]) {
    const { gateway, get } = appOver({ showsImageModels });
    gateway.bundle(bundledCard(id));
    deepEqual(await listed(await get("/models")), showsImageModels ? [id] : []);
    equal((await (await get(`/v1/models/${id}`)).json()).is_supported, false);
  }
});

Deno.test("GET /v1/models/{id} has the whole card, and whose it is", async () => {
  const { gateway, get } = appOver();
  const id = "mlx-community/Qwen3-0.6B-4bit";
  gateway.bundle(bundledCard(id));
  const show = async () => await (await get(`/v1/models/${id}`)).json() as ModelDetails;
  const bundled = await show();
  deepEqual(bundled.model_card, bundledCard(id));
  deepEqual([bundled.architecture, bundled.license], ["qwen3", "apache-2.0"]);
  deepEqual([bundled.is_bundled, bundled.shadows_bundled], [true, false]);
  equal(bundled.is_supported, false);
  gateway.emit({ type: "CustomModelCardAdded", modelCard: cardOf(id) });
  const own = await show();
  deepEqual([own.is_bundled, own.shadows_bundled, own.is_supported], [true, true, true]);
});

Deno.test("what is at hand is found by a short name that a bundled card shares", async () => {
  const { gateway, get } = appOver();
  gateway.bundle(bundledCard("HuggingFaceTB/SmolLM2-135M-Instruct"));
  gateway.bundle(bundledCard("HuggingFaceTB/SmolLM2-360M-Instruct"));
  const found = async (id: string) => (await (await get(`/v1/models/${id}`)).json()).id;
  equal(await found("smollm2-360m"), "HuggingFaceTB/SmolLM2-360M-Instruct");
  gateway.addCard(cardOf("local/smollm2-135m-instruct-0123abcd"));
  equal(await found("smollm2"), "local/smollm2-135m-instruct-0123abcd");
  equal(await found("smollm2-135m-instruct"), "local/smollm2-135m-instruct-0123abcd");
  equal(await found("SmolLM2-135M-Instruct"), "HuggingFaceTB/SmolLM2-135M-Instruct");
});

Deno.test("hints name what is nearest among all cards, and what is at hand before", async () => {
  const { gateway, get } = appOver();
  for (const size of ["4bit", "8bit"]) {
    gateway.bundle(bundledCard(`mlx-community/Qwen3-30B-A3B-${size}`));
  }
  const hint = async (id: string) => (await errorOf(await get(`/v1/models/${id}`))).hint ?? "";
  match(await hint("qwen3-30b"), /could be mlx.*-4bit, mlx.*-8bit: give more/);
  match(await hint("qwen3-30b-a3b-9bit"), /did you mean mlx.*-4bit, mlx.*-8bit\?/);
  match(await hint("30b-a3b-8"), /did you mean mlx-community\/Qwen3-30B-A3B-8bit\?/);
  match(await hint("zzz"), /exo models add PATH/);
  gateway.addCard(cardOf());
  equal(await hint("zzz"), `known models: ${TINY}`);
});

Deno.test("DELETE /models/custom/{id} says whose a card on the disk is", async () => {
  const { gateway, send } = appOver();
  const id = "mlx-community/Qwen3-0.6B-4bit";
  gateway.bundle(bundledCard(id));
  const hint = async () => (await errorOf(await send("DELETE", `/models/custom/${id}`))).hint ?? "";
  match(await hint(), /comes with exo, and stays/);
  gateway.diskCards.set(ModelId.parse(id), cardOf(id));
  match(await hint(), /delete mlx-community--Qwen3-0.6B-4bit.toml in custom_model_cards/);
});

Deno.test("a chat with a bundled model that has no instance is told how to make one", async () => {
  const { gateway, post } = appOver();
  gateway.bundle(bundledCard("mlx-community/Qwen3-0.6B-4bit"));
  const messages = [{ role: "user", content: "hi" }];
  const reply = await post("/v1/chat/completions", { model: "qwen3-0.6b", messages });
  equal((await errorOf(reply)).hint, "exo instance create mlx-community/Qwen3-0.6B-4bit");
});
