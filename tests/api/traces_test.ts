import { deepEqual, equal, match } from "node:assert/strict";
import { TaskId } from "../../core/ids.ts";
import { ChromeTrace, fromChromeTrace, Span, traceStats } from "../../core/trace.ts";
import { appOver, errorOf } from "./requests.ts";

const SPANS = [
  Span.parse({ name: "queue", category: "queue", startUs: 10, durationUs: 5, rank: 0 }),
  Span.parse({ name: "prefill", category: "prefill", startUs: 15, durationUs: 20, rank: 0 }),
];

function traced(...ids: readonly string[]) {
  const api = appOver();
  for (const id of ids) api.gateway.spans.set(TaskId.parse(id), SPANS);
  return api;
}

Deno.test("GET /v1/traces lists traces, newest first", async () => {
  const { get } = traced("a", "b");
  const createdAt = "2025-06-15T15:06:40.000Z";
  deepEqual(await (await get("/v1/traces")).json(), {
    traces: [{ taskId: "b", createdAt, fileSize: 2 }, { taskId: "a", createdAt, fileSize: 2 }],
  });
  deepEqual(await (await appOver().get("/v1/traces")).json(), { traces: [] });
});

Deno.test("GET /v1/traces/{id} shows the spans, their sums, and the file for viewers", async () => {
  const { get } = traced("a");
  deepEqual(await (await get("/v1/traces/a")).json(), { taskId: "a", traces: SPANS });
  deepEqual(await (await get("/v1/traces/a/stats")).json(), { taskId: "a", ...traceStats(SPANS) });
  const raw = await get("/v1/traces/a/raw");
  equal(raw.headers.get("content-disposition"), 'attachment; filename="trace_a.json"');
  deepEqual(fromChromeTrace(ChromeTrace.parse(await raw.json())), SPANS);
});

Deno.test("A trace that is not there is a 404, an id that leads elsewhere a 400", async () => {
  const { get, post } = traced("a");
  for (const part of ["", "/stats", "/raw"]) {
    const missing = await get(`/v1/traces/nope${part}`);
    equal(missing.status, 404);
    match((await errorOf(missing)).message, /found none of task nope/);
    const escaping = await get(`/v1/traces/${encodeURIComponent("../a")}${part}`);
    equal(escaping.status, 400);
    match((await errorOf(escaping)).message, /found the id "\.\.\/a"/);
  }
  equal((await post("/v1/traces/delete", { taskIds: ["a", "../a"] })).status, 400);
  equal((await get("/v1/traces/a")).status, 200, "nothing was deleted");
  equal((await get("/v1/traces/delete")).status, 404, "deleting is a POST alone");
});

Deno.test("POST /v1/traces/delete says what it deleted and what was not there", async () => {
  const { get, post } = traced("a", "b");
  const reply = await post("/v1/traces/delete", { taskIds: ["a", "c", "a"] });
  deepEqual(await reply.json(), { deleted: ["a"], notFound: ["c"] });
  equal((await (await get("/v1/traces")).json()).traces.length, 1);
  const unclear = await post("/v1/traces/delete", { ids: ["a"] });
  equal(unclear.status, 400);
});

Deno.test("With an API key traces want it", async () => {
  const { get } = appOver({ apiKey: "secret" });
  equal((await get("/v1/traces")).status, 401);
});
