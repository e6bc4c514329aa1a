import { deepEqual, equal, match } from "node:assert/strict";
import type { ModelObject } from "../../api/models.ts";
import { cardOf, TINY } from "../support/fake_gateway.ts";
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
