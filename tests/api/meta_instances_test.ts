import { deepEqual, equal, match, notEqual, ok } from "node:assert/strict";
import type { MetaInstanceNews } from "../../api/meta_instance_watch.ts";
import { MetaInstanceId, ModelId } from "../../core/ids.ts";
import type { State } from "../../core/state.ts";
import { cardOf, NODE, TINY } from "../support/fake_gateway.ts";
import { appOver, errorOf } from "./requests.ts";

const PATH = "/meta_instance";

/** A node that knows the model TINY. */
function knowing() {
  const app = appOver();
  app.gateway.addCard(cardOf());
  return app;
}

/** The id of a wish that is made with these fields. */
async function created({ post }: ReturnType<typeof appOver>, fields: object = {}) {
  const response = await post(PATH, { model_id: TINY, ...fields });
  const reply = await response.json();
  equal(response.status, 200, JSON.stringify(reply));
  return MetaInstanceId.parse(reply.meta_instance_id);
}

/** The only instance of a state. */
function onlyInstance({ instances }: State) {
  const [instance] = instances.values();
  ok(instance && instances.size === 1);
  return instance;
}

async function* news(response: Response): AsyncGenerator<MetaInstanceNews> {
  for await (const text of response.body?.pipeThrough(new TextDecoderStream()) ?? []) {
    for (const line of text.split("\n")) {
      if (line.startsWith("data: ")) yield JSON.parse(line.slice(6));
    }
  }
}

Deno.test("POST /meta_instance answers once the wish is stored, and places it at once", async () => {
  const app = knowing();
  const response = await app.post(PATH, { model_id: "tiny" });
  equal(response.status, 200);
  const reply = await response.json();
  equal(reply.message, "Command received.");
  equal(reply.model_card.modelId, TINY);
  const meta = app.gateway.state().metaInstances.get(reply.meta_instance_id);
  deepEqual([meta?.modelId, meta?.maxRetries, meta?.pin, meta?.prefer], [
    TINY,
    3,
    "prefer",
    "smallest",
  ]);
  equal(onlyInstance(app.gateway.state()).metaInstanceId, reply.meta_instance_id);
});

Deno.test("POST /meta_instance keeps all that may be said of it, nodes by their ids", async () => {
  const app = knowing();
  const id = await created(app, {
    sharding: "Pipeline",
    instance_meta: "MlxRing",
    min_nodes: 1,
    node_ids: ["test machine", NODE],
    exact: true,
    excluded_node_ids: null,
    prefer: "latency",
    memory_limits: { "test m": 2 ** 33 },
    force: true,
    config: { context_tokens: 100 },
    max_retries: 7,
    pin: "strict",
  });
  const { modelCard: _, ...meta } = app.gateway.state().metaInstances.get(id) ?? {};
  const asked = {
    nodeIds: [NODE],
    exact: true,
    prefer: "latency",
    memoryLimits: { [NODE]: 2 ** 33 },
    force: true,
    config: { contextTokens: 100 },
    maxRetries: 7,
    pin: "strict",
  };
  deepEqual({ ...meta, ...asked }, meta);
});

Deno.test("POST /meta_instance stores a wish that has no place now, with the reason", async () => {
  const app = knowing();
  const id = await created(app, { min_nodes: 2 });
  const view = await (await app.get(`/meta_instances/${id}`)).json();
  equal(view.phase, "placing");
  ok(view.placementError);
  ok(!("instanceId" in view));
});

Deno.test("POST /meta_instance says what it cannot read, and stores nothing", async () => {
  const app = knowing();
  const error = async (fields: object) =>
    await errorOf(await app.post(PATH, { model_id: TINY, ...fields }));
  equal((await error({ model_id: "nope" })).code, 404);
  equal((await error({ max_retries: -1 })).param, "max_retries");
  equal((await error({ pin: "hard" })).param, "pin");
  equal((await error({ node_ids: ["nobody"] })).param, "node_ids");
  equal((await error({ metaInstanceId: "x" })).param, "metaInstanceId");
  equal(app.gateway.state().metaInstances.size, 0);
});

Deno.test("POST /meta_instance with the same Idempotency-Key is one wish", async () => {
  const app = knowing();
  const post = async (key: string, fields: object = {}) =>
    await app.post(PATH, { model_id: TINY, ...fields }, { headers: { "idempotency-key": key } });
  const idOf = async (response: Promise<Response>) =>
    (await (await response).json()).meta_instance_id;
  const first = await idOf(post("k1"));
  equal(await idOf(post("k1")), first);
  notEqual(await idOf(post("k2")), first);
  equal(app.gateway.state().metaInstances.size, 2);
  const other = await errorOf(await post("k1", { max_retries: 9 }));
  deepEqual([other.code, other.exo_code], [409, "conflict"]);
  match(other.message, /Idempotency-Key used for another/);
  match((await errorOf(await post("k".repeat(257)))).message, /found 257 characters/);
});

Deno.test("GET /meta_instances tells how each wish fares", async () => {
  const app = knowing();
  deepEqual(await (await app.get("/meta_instances")).json(), {});
  const id = await created(app);
  const { instanceId } = onlyInstance(app.gateway.state());
  const view = async () => (await (await app.get("/meta_instances")).json())[id];
  deepEqual(
    (({ phase, instanceId, detail, runners }) => ({ phase, instanceId, detail, runners }))(
      await view(),
    ),
    { phase: "starting", instanceId, detail: "starting", runners: {} },
  );
  app.gateway.setRunners(instanceId, { type: "RunnerLoading", layersLoaded: 3, totalLayers: 30 });
  const loading = await view();
  equal(loading.detail, "loading");
  deepEqual(Object.values(loading.runners), [
    { status: "RunnerLoading", layersLoaded: 3, totalLayers: 30 },
  ]);
  app.gateway.emit({ type: "MetaInstanceReady", metaInstanceId: id });
  const ready = await view();
  deepEqual([ready.phase, ready.instanceId, ready.detail], ["ready", instanceId, undefined]);
  deepEqual(await (await app.get(`/state/metaInstances/${id}`)).json(), ready);
});

Deno.test("DELETE /meta_instance/{id} takes the wish and its instance away", async () => {
  const app = knowing();
  const id = await created(app);
  const reply = await (await app.send("DELETE", `${PATH}/${id}`)).json();
  equal(reply.meta_instance_id, id);
  const { metaInstances, instances } = app.gateway.state();
  deepEqual([metaInstances.size, instances.size], [0, 0]);
});

Deno.test("an unknown meta-instance is a 404 on each of its routes", async () => {
  const { send } = appOver();
  const routes = [
    ["GET", "/meta_instances/x"],
    ["GET", "/meta_instances/x?watch=1"],
    ["DELETE", "/meta_instance/x"],
    ["POST", "/meta_instance/x/retry"],
  ];
  for (const [method = "", path = ""] of routes) {
    const { code, message } = await errorOf(await send(method, path));
    deepEqual([code, message], [404, "MetaInstance not found"], path);
  }
});

Deno.test("POST /meta_instance/{id}/retry arms a parked wish again", async () => {
  const app = knowing();
  const id = await created(app);
  app.gateway.emit({ type: "MetaInstanceParked", metaInstanceId: id, reason: "no luck" });
  const phase = () => app.gateway.state().metaInstances.get(id)?.phase;
  equal(phase(), "parked");
  const reply = await (await app.send("POST", `${PATH}/${id}/retry`)).json();
  equal(reply.meta_instance_id, id);
  notEqual(phase(), "parked");
});

Deno.test("GET /meta_instances/{id}?watch=1 tells each change once, until it is deleted", async () => {
  const app = knowing();
  const id = await created(app);
  const { instanceId } = onlyInstance(app.gateway.state());
  const stream = news(await app.get(`/meta_instances/${id}?watch=1`));
  const next = async () => (await stream.next()).value as MetaInstanceNews;
  const stateOf = async () => {
    const message = await next();
    ok(message.type === "state");
    return message.metaInstance as { phase: string; detail?: string };
  };
  equal((await stateOf()).phase, "starting");
  // A change that is none of its, then two of which only the last is seen.
  app.gateway.addCard(cardOf(ModelId.parse("org/other")));
  app.gateway.setRunners(instanceId, { type: "RunnerIdle" });
  app.gateway.setRunners(instanceId, { type: "RunnerLoading", layersLoaded: 3, totalLayers: 30 });
  equal((await stateOf()).detail, "loading");
  app.gateway.emit({ type: "MetaInstanceReady", metaInstanceId: id });
  equal((await stateOf()).phase, "ready");
  await app.send("DELETE", `${PATH}/${id}`);
  deepEqual(await next(), { type: "deleted", metaInstanceId: id });
  equal((await stream.next()).done, true);
  equal(app.gateway.listenerCount, 0);
});

Deno.test("GET /meta_instances/{id}?watch=1 ends its watch when the client goes", async () => {
  const app = knowing();
  const stream = news(await app.get(`/meta_instances/${await created(app)}?watch=1`));
  await stream.next();
  equal(app.gateway.listenerCount, 1);
  await stream.return(undefined);
  app.gateway.emit();
  await Promise.resolve();
  equal(app.gateway.listenerCount, 0);
});
