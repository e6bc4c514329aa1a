import { deepEqual, doesNotMatch, equal, match, ok } from "node:assert/strict";
import { Metrics } from "../../api/metrics/metrics.ts";
import { MODEL_LABELS_MAX } from "../../api/metrics/generations.ts";
import type { ApiOptions } from "../../api/server.ts";
import type { Chunk } from "../../core/chunk.ts";
import { AppError } from "../../core/errors.ts";
import { CommandId, ModelId, NodeId, runnerIdOf, TaskId } from "../../core/ids.ts";
import { engineStats } from "../support/engine_stats.ts";
import { eventually } from "../support/eventually.ts";
import { FakeGateway, FINISH, NODE, TINY, token } from "../support/fake_gateway.ts";
import { createApp, serveApi } from "../../api/server.ts";
import { chatOf } from "./requests.ts";

/** An API whose clock advances by what the test says. */
function measured(options: ApiOptions = {}) {
  const gateway = new FakeGateway();
  const clock = { ms: 0 };
  const metrics = new Metrics(gateway, () => clock.ms);
  const app = createApp(gateway, { ...options, metrics });
  const post = (body: object) =>
    app.request("/v1/chat/completions", { method: "POST", body: JSON.stringify(body) });
  return { gateway, clock, metrics, app, post, scrape: () => scrapeOf(metrics) };
}

/** Each line of the text that is no comment, as a name with its labels and its value. */
async function scrapeOf(metrics: Metrics): Promise<Map<string, number>> {
  const { text } = await metrics.render();
  const lines = text.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
  return new Map(lines.map((line) => {
    const at = line.lastIndexOf(" ");
    return [line.slice(0, at), Number(line.slice(at + 1))];
  }));
}

const HI = { messages: [], sampling: {}, stop: [], seed: "1" };
const never = new AbortController().signal;
const MODEL = `{model="${TINY}"}`;

Deno.test("GET /metrics is text of Prometheus, behind the key like other routes", async () => {
  const { app } = measured({ apiKey: "secret" });
  equal((await app.request("/metrics")).status, 401);
  const reply = await app.request("/metrics", { headers: { "x-api-key": "secret" } });
  equal(reply.status, 200);
  match(reply.headers.get("content-type") ?? "", /^text\/plain; version=0\.0\.4/);
  const text = await reply.text();
  for (const name of text.match(/^# TYPE \S+/gm) ?? []) {
    match(name, /^# TYPE (exo|process)_[a-z_]+$/);
  }
  for (const [, name] of text.matchAll(/^# TYPE (\S+) counter$/gm)) match(name ?? "", /_total$/);
});

Deno.test("Requests are counted by the pattern of their route, never by what a client made up", async () => {
  const { app, scrape } = measured();
  for (const path of ["/state", "/state/a/b", "/state/tasks", "/v1/models/nope", "/what/ever"]) {
    await app.request(path);
  }
  await app.request("/node_id", { method: "BREW" });
  const counts = await scrape();
  const count = (labels: string) => counts.get(`exo_http_requests_total{${labels}}`);
  equal(count('method="GET",route="/state",status="200"'), 1);
  equal(count('method="GET",route="/state/*",status="404"'), 1);
  equal(count('method="GET",route="/state/*",status="200"'), 1);
  equal(count('method="GET",route="/v1/models/:id",status="404"'), 1);
  equal(count('method="GET",route="unmatched",status="404"'), 1);
  equal(count('method="other",route="unmatched",status="405"'), 1);
  equal(counts.get("exo_http_requests_in_flight"), 0);
});

Deno.test("A request without the key is counted under its route", async () => {
  const { app, scrape } = measured({ apiKey: "secret" });
  await app.request("/node_id");
  const labels = 'method="GET",route="/node_id",status="401"';
  equal((await scrape()).get(`exo_http_requests_total{${labels}}`), 1);
});

Deno.test("A request is in flight until its reply begins", async () => {
  const { gateway, scrape, post } = measured();
  gateway.placeModel();
  let inFlight: number | undefined;
  gateway.accept = async () => {
    inFlight = (await scrape()).get("exo_http_requests_in_flight");
  };
  await (await post(chatOf())).text();
  equal(inFlight, 1);
  equal((await scrape()).get("exo_http_requests_in_flight"), 0);
});

Deno.test("Times of a generation are measured where its client waits", async () => {
  const { gateway, clock, scrape, post } = measured();
  gateway.placeModel();
  gateway.accept = () => void (clock.ms += 30);
  gateway.answer = async function* (): AsyncGenerator<Chunk> {
    clock.ms += 50;
    yield token("a");
    clock.ms += 4;
    yield token("b");
    clock.ms += 400;
    yield token("c");
    ok(FINISH.type === "Finish");
    const told = { queueMilliseconds: 7, prefixCacheHit: "partial" as const };
    yield { ...FINISH, stats: { ...FINISH.stats, ...told } };
  };
  await (await post(chatOf({ stream: true }))).text();
  const counts = await scrape();
  const bucket = (name: string, le: string) =>
    counts.get(`${name}_bucket{le="${le}",model="${TINY}"}`);
  equal(counts.get(`exo_time_to_first_token_seconds_sum${MODEL}`), 0.08);
  deepEqual([0.05, 0.1].map((le) => bucket("exo_time_to_first_token_seconds", `${le}`)), [0, 1]);
  equal(counts.get(`exo_inter_token_latency_seconds_count${MODEL}`), 2);
  deepEqual(
    ["0.0025", "0.005", "0.25", "0.5"].map((le) => bucket("exo_inter_token_latency_seconds", le)),
    [0, 1, 1, 2],
  );
  equal(counts.get(`exo_queue_wait_seconds_sum${MODEL}`), 0.007);
  const lookups = `exo_prefix_cache_lookups_total{model="${TINY}",result="partial"}`;
  equal(counts.get(lookups), 1);
  equal(counts.get(`exo_generations_total{model="${TINY}",outcome="stop"}`), 1);
});

Deno.test("Generations are counted by how they end: refused, failed or left", async () => {
  const { gateway, scrape, post, metrics } = measured();
  gateway.placeModel();
  gateway.accept = () => {
    throw new AppError("queue_full", "Cannot take the request: full");
  };
  equal((await post(chatOf())).status, 429);
  gateway.accept = () => {};
  const error = { code: "runner_failed" as const, message: "gone" };
  gateway.answer = () => [token("a"), { type: "Error", error }];
  await (await post(chatOf({ stream: true }))).text();
  const left = await metrics.generations.follow(
    { modelId: TINY, signal: never },
    () => gateway.generate(TINY, HI, never),
  );
  for await (const _ of left.chunks) break;
  const counts = await scrape();
  for (const outcome of ["queue_full", "runner_failed", "cancelled"]) {
    equal(counts.get(`exo_generations_total{model="${TINY}",outcome="${outcome}"}`), 1, outcome);
  }
});

Deno.test("Generations that nobody reads are counted: one of several was refused, or who asked left", async () => {
  const { gateway, scrape, post, metrics } = measured();
  gateway.placeModel();
  let asked = 0;
  gateway.accept = () => {
    if (++asked === 3) throw new AppError("queue_full", "Cannot take the request: full");
  };
  equal((await post(chatOf({ n: 4 }))).status, 429);
  const count = async (outcome: string) =>
    (await scrape()).get(`exo_generations_total{model="${TINY}",outcome="${outcome}"}`);
  deepEqual([await count("queue_full"), await count("cancelled")], [1, 3]);
  const client = new AbortController();
  const { signal } = client;
  const follow = () =>
    metrics.generations.follow({ modelId: TINY, signal }, () => gateway.generate(TINY, HI, never));
  const [read, unread] = [await follow(), await follow()];
  const reader = read.chunks[Symbol.asyncIterator]();
  await reader.next();
  client.abort();
  equal(await count("cancelled"), 4, "the one that is read has not ended");
  while (!(await reader.next()).done);
  await Array.fromAsync(unread.chunks);
  deepEqual([await count("stop"), await count("cancelled")], [1, 4], "each is counted once");
});

Deno.test("Models have a label each, up to a limit", async () => {
  const { gateway, scrape, metrics } = measured();
  for (let n = 0; n < MODEL_LABELS_MAX + 2; n++) {
    const modelId = ModelId.parse(`local/m${n}`);
    const { chunks } = await metrics.generations.follow(
      { modelId, signal: never },
      () => gateway.generate(modelId, HI, never),
    );
    await Array.fromAsync(chunks);
  }
  const counts = await scrape();
  const series = [...counts.keys()].filter((key) => key.startsWith("exo_generations_total{"));
  equal(series.length, MODEL_LABELS_MAX + 1);
  equal(counts.get('exo_generations_total{model="other",outcome="stop"}'), 2);
});

Deno.test("Generations in flight are those of this node's clients", async () => {
  const { gateway, scrape } = measured();
  const instanceId = gateway.placeModel();
  const taskOf = (id: string, apiNodeId = NODE, taskStatus: "Running" | "Complete" = "Running") => {
    const type = "TextGeneration" as const;
    const [taskId, commandId] = [TaskId.parse(id), CommandId.parse(id)];
    return { type, taskId, commandId, instanceId, modelId: TINY, apiNodeId, taskStatus };
  };
  const tasks = [
    taskOf("a"),
    taskOf("b"),
    taskOf("c", NodeId.parse("other")),
    taskOf("d", NODE, "Complete"),
  ];
  for (const task of tasks) gateway.emit({ type: "TaskCreated", task });
  equal((await scrape()).get(`exo_generations_in_flight${MODEL}`), 2);
});

Deno.test("Engines are shown by model and instance, as long as they are there", async () => {
  const { gateway, scrape } = measured();
  const instanceId = gateway.placeModel();
  const runnerId = runnerIdOf(instanceId, 0);
  const memory = { weightBytes: 90, kvBytes: 24, prefixCacheBytes: 8, kvBudgetBytes: 256 };
  const stats = engineStats({
    running: 3,
    queued: 2,
    longestWaitMilliseconds: 1_500,
    batchSize: 3,
    requests: 11,
    preemptions: 1,
    promptTokens: 400,
    cachedTokens: 100,
    prefillTokens: 333,
    generatedTokens: 500,
    steps: 99,
    promptTokensPerSecond: 30,
    generationTokensPerSecond: 150,
    memory,
    group: { bytesSent: 1_500_000, framesSent: 998, waitedMs: 2_500 },
  });
  gateway.stats.set(runnerId, stats);
  const labels = `model="${TINY}",instance="${instanceId}"`;
  const shown = await scrape();
  deepEqual(
    [...shown].filter(([key]) => key.includes(`{${labels}`)).map(([key, value]) => [
      key.replace(`{${labels}}`, "").replace(`${labels},`, ""),
      value,
    ]),
    [
      ["exo_engine_requests_total", 11],
      ["exo_engine_steps_total", 99],
      ["exo_preemptions_total", 1],
      ["exo_prompt_tokens_total", 400],
      ["exo_prompt_cached_tokens_total", 100],
      ["exo_prefill_tokens_total", 333],
      ["exo_generated_tokens_total", 500],
      ["exo_group_sent_bytes_total", 1_500_000],
      ["exo_group_sent_frames_total", 998],
      ["exo_group_wait_seconds_total", 2.5],
      ["exo_generations_running", 3],
      ["exo_generations_queued", 2],
      ["exo_queue_longest_wait_seconds", 1.5],
      ["exo_batch_size", 3],
      ["exo_prompt_tokens_per_second", 30],
      ["exo_generation_tokens_per_second", 150],
      ["exo_kv_budget_bytes", 256],
      ['exo_memory_bytes{kind="weights"}', 90],
      ['exo_memory_bytes{kind="kv"}', 24],
      ['exo_memory_bytes{kind="prefix_cache"}', 8],
    ],
  );
  gateway.stats.set(runnerId, engineStats({ generatedTokens: 501 }));
  equal((await scrape()).get(`exo_generated_tokens_total{${labels}}`), 501, "not the sum of both");
  gateway.stats.delete(runnerId);
  const { text } = await new Metrics(gateway).render();
  doesNotMatch(text, new RegExp(instanceId));
  equal([...(await scrape()).keys()].some((key) => key.includes(instanceId)), false);
});

Deno.test("The network is shown by the nodes there and by what no queue had room for", async () => {
  const { scrape, gateway } = measured();
  const first = await scrape();
  equal(first.get("exo_network_peers"), 2);
  equal(first.get("exo_network_dropped_total"), 3);
  gateway.network = () => ({ peerCount: 0, droppedCount: 5 });
  const second = await scrape();
  equal(second.get("exo_network_peers"), 0);
  equal(second.get("exo_network_dropped_total"), 5, "it is as it is told, not added up");
});

Deno.test("The node's process shows its own memory, time and start", async () => {
  const { scrape } = measured();
  const counts = await scrape();
  ok((counts.get("process_resident_memory_bytes") ?? 0) > 2 ** 20);
  ok((counts.get("process_cpu_seconds_total") ?? 0) > 0);
  ok((counts.get("exo_heap_used_bytes") ?? 0) > 0);
  const startedAt = counts.get("process_start_time_seconds") ?? 0;
  ok(startedAt > 1_700_000_000 && startedAt <= Date.now() / 1000);
});

Deno.test("A server that listens watches its event loop until it is closed", async () => {
  const gateway = new FakeGateway();
  const metrics = new Metrics(gateway);
  const stop = new AbortController();
  const listen = { hostname: "127.0.0.1", port: 0, signal: stop.signal, metrics };
  const server = await serveApi(gateway, listen);
  const looks = async () => (await scrapeOf(metrics)).get("exo_event_loop_lag_seconds_count") ?? 0;
  await eventually("the event loop is looked at", async () => await looks() > 0);
  stop.abort();
  await server.finished;
});
