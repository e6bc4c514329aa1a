import { deepEqual, equal, match, ok } from "node:assert/strict";
import type { WaitMessage } from "../../api/instance_wait.ts";
import type { Command } from "../../core/commands.ts";
import { InstanceId } from "../../core/ids.ts";
import { A, nodeStarted } from "../support/fixtures.ts";
import { cardOf, NODE, TINY } from "../support/fake_gateway.ts";
import { appOver, errorOf } from "./requests.ts";

/** The messages of a wait, one by one. */
async function* messages(response: Response): AsyncGenerator<WaitMessage> {
  for await (const text of response.body?.pipeThrough(new TextDecoderStream()) ?? []) {
    for (const line of text.split("\n")) {
      if (line.startsWith("data: ")) yield JSON.parse(line.slice(6));
    }
  }
}

Deno.test("POST /place_instance answers once the instance exists", async () => {
  const { gateway, post } = appOver();
  gateway.addCard(cardOf());
  const response = await post("/place_instance", { model_id: "tiny" });
  equal(response.status, 200);
  const reply = await response.json();
  equal(reply.message, "Command received.");
  ok(reply.command_id);
  equal(reply.model_card.modelId, TINY);
  ok(gateway.state().instances.has(InstanceId.parse(reply.instance_id)));
});

Deno.test("POST /place_instance reads config in both casings", async () => {
  const { gateway, post } = appOver();
  gateway.addCard(cardOf());
  const snake = {
    context_tokens: 100,
    kv_bits: 4,
    max_concurrent_requests: 2,
    prefill_chunk_tokens: 64,
    sampling_defaults: { top_p: 0.5, repetition_penalty: 1.1, repetition_context_tokens: 9 },
  };
  const camel = {
    contextTokens: 100,
    kvBits: 4,
    maxConcurrentRequests: 2,
    prefillChunkTokens: 64,
    samplingDefaults: { topP: 0.5, repetitionPenalty: 1.1, repetitionContextTokens: 9 },
  };
  for (const config of [snake, camel]) {
    equal((await post("/place_instance", { model_id: TINY, config })).status, 200);
  }
  for (const { config } of gateway.state().instances.values()) deepEqual(config, camel);
});

Deno.test("POST /place_instance says why it cannot", async () => {
  const { gateway, post } = appOver();
  gateway.addCard(cardOf());
  const error = async (body: object) => await errorOf(await post("/place_instance", body));
  equal((await error({ model_id: "nope" })).exo_code, "model_not_found");
  equal((await error({ model_id: TINY, min_nodes: 2 })).exo_code, "placement_failed");
  equal((await error({ model_id: TINY, sharding: "pipeline" })).param, "sharding");
  equal((await error({ model_id: TINY, config: { kvBits: 5 } })).param, "config.kvBits");
  equal((await error({ model_id: TINY, modelid: 1 })).param, "modelid");
  equal((await error({})).param, "model_id");
});

Deno.test("POST /place_instance?wait=ready answers when the instance is ready", async () => {
  const { gateway, post } = appOver();
  gateway.addCard(cardOf());
  gateway.afterCommand = (command) => {
    if (command.type !== "PlaceInstance") return;
    const { instanceId } = command;
    queueMicrotask(() => gateway.setRunners(instanceId, { type: "RunnerReady" }));
  };
  const response = await post("/place_instance?wait=ready", { model_id: TINY });
  equal(response.status, 200);
  await response.body?.cancel();
  equal(gateway.listenerCount, 0);
});

Deno.test("POST /place_instance?wait=ready tells a failure, or that it took too long", async () => {
  const { gateway, post } = appOver();
  gateway.addCard(cardOf());
  const late = await post("/place_instance?wait=ready&timeout_seconds=0.005", { model_id: TINY });
  equal(late.status, 504);
  match((await errorOf(late)).message, /not ready after 0.005 s: starting/);
  gateway.afterCommand = (command) => {
    if (command.type !== "PlaceInstance") return;
    const reason = "bad weights";
    gateway.setRunners(command.instanceId, { type: "RunnerFailed", reason, diagnostics: [] });
  };
  const failed = await post("/place_instance?wait=ready", { model_id: TINY });
  equal(failed.status, 500);
  match((await errorOf(failed)).message, /bad weights/);
});

Deno.test("POST /instance creates exactly what it is given, once", async () => {
  const { gateway, get, post, send } = appOver();
  const id = gateway.placeModel(TINY, null);
  const instance = await (await get(`/instance/${id}`)).json();
  equal((await post("/instance", { instance })).status, 409);
  equal((await send("DELETE", `/instance/${id}`)).status, 200);
  const reply = await (await post("/instance", { instance })).json();
  equal(reply.instance_id, id);
  deepEqual(await (await get(`/instance/${id}`)).json(), instance);
  const bad = await errorOf(await post("/instance", { instance: { MlxRingInstance: {} } }));
  equal(bad.param, "instance.instanceId");
});

Deno.test("POST /instance takes an instance of several ranks, as a preview shows it", async () => {
  const { gateway, get, post } = appOver();
  gateway.addCard(cardOf());
  gateway.emit(nodeStarted(A));
  for (const [source, sink, ip] of [[NODE, A, "10.0.0.2"], [A, NODE, "10.0.0.1"]] as const) {
    const sinkMultiaddr = `/ip4/${ip}/tcp/52414`;
    const edge = { type: "SocketConnection" as const, sinkMultiaddr };
    gateway.emit({ type: "TopologyEdgeCreated", connection: { source, sink, edge } });
  }
  const query = "model_id=tiny&min_nodes=2&sharding=Pipeline&instance_meta=MlxRing";
  const { previews: [preview] } = await (await get(`/instance/previews?${query}`)).json();
  const response = await post("/instance", { instance: preview.instance });
  equal(response.status, 200, await response.clone().text());
  const { instance_id } = await response.json();
  deepEqual(await (await get(`/instance/${instance_id}`)).json(), preview.instance);
  const { MlxRingInstance } = preview.instance;
  const broken = { ...MlxRingInstance, instanceId: "other", hostsByNode: {} };
  const { message } = await errorOf(
    await post("/instance", { instance: { MlxRingInstance: broken } }),
  );
  match(message, /names 0 hosts, 2 needed/);
});

Deno.test("POST /instance reads an instance over RDMA, by either kind of tag", async () => {
  const { gateway, post } = appOver();
  gateway.addCard(cardOf());
  const shardAssignments = { modelId: TINY, runnerToShard: {}, nodeToRunner: { nobody: "r" } };
  const inside = {
    instanceId: "i",
    shardAssignments,
    jacclDevices: [[null]],
    jacclCoordinators: {},
  };
  for (const instance of [{ MlxJacclInstance: inside }, { type: "MlxJacclInstance", ...inside }]) {
    match(
      (await errorOf(await post("/instance", { instance }))).message,
      /node nobody is not known/,
    );
  }
});

Deno.test("GET /instance lists, /instance/{id} shows, DELETE deletes", async () => {
  const { gateway, get, send } = appOver();
  const id = gateway.placeModel();
  const list = await (await get("/instance")).json();
  equal(list[0].MlxRingInstance.instanceId, id);
  deepEqual(await (await get("/instances")).json(), list);
  const reply = await (await send("DELETE", `/instance/${id}`)).json();
  equal(reply.instance_id, id);
  for (const method of ["GET", "DELETE"]) {
    const missing = await errorOf(await send(method, `/instance/${id}`));
    deepEqual([missing.code, missing.message], [404, "Instance not found"]);
  }
});

Deno.test("GET /instance/await follows the runners up to ready, without polling", async () => {
  const { gateway, get } = appOver();
  const id = gateway.placeModel(TINY, null);
  const stream = messages(await get(`/instance/await?instance_id=${id}`));
  const next = async () => (await stream.next()).value as WaitMessage;
  deepEqual(await next(), { type: "progress", instanceId: id, phase: "starting", runners: {} });
  gateway.setRunners(id, { type: "RunnerLoading", layersLoaded: 3, totalLayers: 30 });
  deepEqual(await next(), {
    type: "progress",
    instanceId: id,
    phase: "loading",
    runners: { [`${id}:0`]: { status: "RunnerLoading", layersLoaded: 3, totalLayers: 30 } },
  });
  // A change that is none for this instance is not told, and several are told as one.
  gateway.addCard(cardOf("org/other"));
  gateway.setRunners(id, { type: "RunnerWarmingUp" });
  gateway.setRunners(id, { type: "RunnerReady" });
  const last = await next();
  equal(last.type, "ready");
  equal(last.type === "ready" && last.instanceId, id);
  equal((await stream.next()).done, true);
  equal(gateway.listenerCount, 0);
});

Deno.test("GET /instance/await fails with the runner's reason, even if it missed it", async () => {
  const { gateway, get } = appOver();
  const id = gateway.placeModel(TINY, null);
  const stream = messages(await get(`/instance/await?instance_id=${id}`));
  await stream.next();
  const failureError = "out of memory";
  gateway.emit({ type: "InstanceRetrying", instanceId: id, failureError, notBefore: 9 });
  const last = (await stream.next()).value as WaitMessage;
  const message = `Instance ${id} failed: out of memory`;
  deepEqual(last, { type: "failed", instanceId: id, message });
});

Deno.test("GET /instance/await follows an instance that is being tried again", async () => {
  const { gateway, get } = appOver();
  const id = gateway.placeModel(TINY, null);
  const failureError = "out of memory";
  gateway.emit({ type: "InstanceRetrying", instanceId: id, failureError, notBefore: 9 });
  const stream = messages(await get(`/instance/await?instance_id=${id}`));
  const first = (await stream.next()).value as WaitMessage;
  deepEqual(first, {
    type: "progress",
    instanceId: id,
    phase: "retrying",
    runners: {},
    message: failureError,
  });
  gateway.setRunners(id, { type: "RunnerReady" });
  equal((await stream.next()).value?.type, "ready");
});

Deno.test("GET /instance/await waits out a failure that was there before it", async () => {
  const { gateway, get } = appOver();
  const id = gateway.placeModel(TINY, null);
  const failed = { type: "RunnerFailed" as const, reason: "killed", diagnostics: [] };
  gateway.setRunners(id, failed);
  const stream = messages(await get(`/instance/await?instance_id=${id}`));
  equal((await stream.next()).value?.type, "progress");
  gateway.emit({ type: "InstanceRetrying", instanceId: id, failureError: "killed", notBefore: 9 });
  const retrying = (await stream.next()).value;
  equal(retrying?.type === "progress" && retrying.phase, "retrying");
  gateway.emit({ type: "InstanceRetrying", instanceId: id, failureError: "again", notBefore: 99 });
  const message = `Instance ${id} failed: again`;
  deepEqual((await stream.next()).value, { type: "failed", instanceId: id, message });
});

Deno.test("GET /instance/await says when an instance waits for a node that is gone", async () => {
  const { gateway, get } = appOver();
  const id = gateway.placeModel(TINY, null);
  gateway.emit({ type: "NodeTimedOut", nodeId: NODE });
  const stream = messages(await get(`/instance/await?instance_id=${id}`));
  const first = (await stream.next()).value as WaitMessage;
  deepEqual(first, { type: "progress", instanceId: id, phase: "absent", runners: {} });
});

Deno.test("GET /instance/await fails when the instance is deleted", async () => {
  const { gateway, get } = appOver();
  const id = gateway.placeModel(TINY, null);
  const stream = messages(await get(`/instance/await?instance_id=${id}`));
  await stream.next();
  gateway.emit({ type: "InstanceDeleted", instanceId: id });
  match(JSON.stringify((await stream.next()).value), /was removed before it was ready/);
});

Deno.test("GET /instance/await by model waits for its first instance", async () => {
  const { gateway, get } = appOver();
  gateway.addCard(cardOf());
  const stream = messages(await get("/instance/await?model_id=tiny&until=exists"));
  const first = (await stream.next()).value as WaitMessage;
  deepEqual(first, { type: "progress", instanceId: null, phase: "placing", runners: {} });
  gateway.placeModel(TINY, null);
  equal((await stream.next()).value?.type, "ready");
});

Deno.test("GET /instance/await is over when its time is up", async () => {
  const { gateway, get } = appOver();
  gateway.addCard(cardOf());
  const text = await (await get("/instance/await?model_id=tiny&timeout_seconds=0.005")).text();
  ok(text.endsWith(
    `data: {"type":"timeout","message":"No instance found for model ${TINY}"}\n\n`,
  ));
  equal(gateway.listenerCount, 0);
});

Deno.test("GET /instance/await ends its watch when the client goes", async () => {
  const { gateway, get } = appOver();
  const id = gateway.placeModel(TINY, null);
  const stream = messages(await get(`/instance/await?instance_id=${id}`));
  await stream.next();
  equal(gateway.listenerCount, 1);
  await stream.return(undefined);
  gateway.emit();
  await Promise.resolve();
  equal(gateway.listenerCount, 0);
});

Deno.test("GET /instance/await says what is wrong with its query", async () => {
  const { get } = appOver();
  const error = async (query: string) => await errorOf(await get(`/instance/await?${query}`));
  equal((await error("")).param, "instance_id");
  equal((await error("instance_id=nope")).exo_code, "instance_not_found");
  equal((await error("model_id=nope")).exo_code, "model_not_found");
  equal((await error("model_id=x&timeout_seconds=301")).param, "timeout_seconds");
  equal((await error("model_id=x&until=soon")).param, "until");
});

Deno.test("what is placed meets at the ports that the asked node allows", async () => {
  const { gateway, get, post } = appOver();
  gateway.addCard(cardOf());
  const ringPorts = { from: 50_000, to: 50_063 };
  gateway.ringPorts = ringPorts;
  const asked: Command[] = [];
  gateway.afterCommand = (command) => void asked.push(command);
  equal((await post("/place_instance", { model_id: "tiny" })).status, 200);
  equal((await post("/meta_instance", { model_id: "tiny" })).status, 200);
  const [placed, declared] = asked;
  deepEqual(placed?.type === "PlaceInstance" && placed.request.ringPorts, ringPorts);
  deepEqual(
    declared?.type === "CreateMetaInstance" && declared.metaInstance.ringPorts,
    ringPorts,
  );
  const [wish] = Object.values(await (await get("/meta_instances")).json()) as object[];
  deepEqual(wish && "ringPorts" in wish && wish.ringPorts, ringPorts);
});
