import { deepEqual, equal, match } from "node:assert/strict";
import { snakeFields } from "../../api/encode_state.ts";
import { EVENTS_MAX } from "../../api/events.ts";
import { B, nodeStarted } from "../support/fixtures.ts";
import { NODE } from "../support/fake_gateway.ts";
import { appOver, errorOf } from "./requests.ts";

const STREAM = { headers: { accept: "text/event-stream" } };

/** What a stream sends, comments aside, as text of one message each. */
async function* messagesOf(response: Response): AsyncGenerator<string> {
  let text = "";
  for await (const piece of response.body?.pipeThrough(new TextDecoderStream()) ?? []) {
    text += piece;
    for (let end = text.indexOf("\n\n"); end >= 0; end = text.indexOf("\n\n")) {
      const message = text.slice(0, end);
      text = text.slice(end + 2);
      if (!message.startsWith(":")) yield message;
    }
  }
}

/** The next message of a stream; undefined at its end. */
async function next(messages: AsyncGenerator<string>): Promise<string | undefined> {
  return (await messages.next()).value;
}

Deno.test("GET /events has each event, tagged and in snake_case, and says where to go on", async () => {
  const { gateway, get } = appOver();
  gateway.placeModel();
  const response = await get("/events");
  const events = await response.json();
  const count = gateway.state().lastEventAppliedIdx + 1;
  equal(events.length, count);
  equal(response.headers.get("x-exo-last-idx"), `${count}`);
  equal(response.headers.get("cache-control"), "no-store");
  deepEqual(Object.keys(events[0]), ["NodeStarted"]);
  equal(events[0].NodeStarted.node_id, NODE);
  equal(events[0].NodeStarted.info.friendly_name, "test machine");
  const { InstanceCreated } = events.find((event: object) => "InstanceCreated" in event);
  const { shard_assignments } = InstanceCreated.instance.MlxRingInstance;
  deepEqual(Object.keys(shard_assignments.node_to_runner), [NODE], "ids stay as they are");
  equal(shard_assignments.runner_to_shard["id-1:0"].PipelineShardMetadata.end_layer, 30);
});

Deno.test("GET /events in pages has no gap and no overlap", async () => {
  const { gateway, get } = appOver();
  for (let n = 0; n < 9; n++) gateway.emit(nodeStarted(B, n));
  const whole = await (await get("/events")).json();
  const read: unknown[] = [];
  let [since, pages] = [0, 0];
  while (true) {
    const response = await get(`/events?since=${since}&limit=4`);
    const events = await response.json();
    since = Number(response.headers.get("x-exo-last-idx"));
    if (events.length === 0) break;
    read.push(...events);
    pages++;
  }
  deepEqual([pages, since], [3, 10]);
  deepEqual(read, whole);
  const beyond = await get("/events?since=1000");
  deepEqual([await beyond.json(), beyond.headers.get("x-exo-last-idx")], [[], "10"]);
});

Deno.test("GET /events refuses what is no index, and pages that are too long", async () => {
  const { get } = appOver();
  for (const query of ["since=-1", "since=x", "limit=0", `limit=${EVENTS_MAX + 1}`, "since=1.5"]) {
    const response = await get(`/events?${query}`);
    equal(response.status, 400, query);
    equal((await errorOf(response)).param, query.split("=")[0]);
  }
  for (const id of ["x", "-1", ""]) {
    const response = await get("/events", { headers: { ...STREAM.headers, "last-event-id": id } });
    equal(response.status, 400);
    match((await errorOf(response)).message, /Last-Event-ID: found ".*", the id of an event/);
  }
});

Deno.test("GET /events below what the log still has is a 410 with its oldest index", async () => {
  const { gateway, get } = appOver();
  gateway.emit(nodeStarted(B));
  gateway.compact();
  gateway.emit(nodeStarted(B, 2));
  for (const init of [{}, STREAM]) {
    const response = await get("/events?since=1", init);
    equal(response.status, 410);
    equal(response.headers.get("x-exo-oldest-idx"), "2");
    const { message, exo_code, hint } = await errorOf(response);
    equal(message, "Cannot read events from 1: the log begins at 2, that or a later one needed");
    deepEqual([exo_code, hint], [
      "compacted",
      "read GET /state, then go on after its lastEventAppliedIdx",
    ]);
  }
  equal((await (await get("/events?since=2")).json()).length, 1);
});

Deno.test("GET /events as a stream tells each event as it happens, with its index", async () => {
  const { gateway, get } = appOver();
  const messages = messagesOf(await get("/events?since=0", STREAM));
  match(await next(messages) ?? "", /^id: 0\ndata: \{"NodeStarted":/);
  const told = next(messages);
  gateway.emit(nodeStarted(B, 7));
  match(await told ?? "", /^id: 1\ndata: \{"NodeStarted":.*"incarnation":7/);
  gateway.emit(...Array.from({ length: 250 }, (_, n) => nodeStarted(B, 8 + n)));
  for (let idx = 2; idx < 252; idx++) {
    match(await next(messages) ?? "", new RegExp(`^id: ${idx}\n`));
  }
  await messages.return(undefined);
  equal(gateway.listenerCount, 0);
});

Deno.test("GET /events as a stream begins after Last-Event-ID, else with what comes next", async () => {
  const { gateway, get } = appOver();
  gateway.emit(nodeStarted(B), nodeStarted(B, 2));
  const headers = { ...STREAM.headers, "last-event-id": "1" };
  const resumed = messagesOf(await get("/events?since=0", { headers }));
  match(await next(resumed) ?? "", /^id: 2\n/);
  await resumed.return(undefined);
  const fresh = messagesOf(await get("/events", STREAM));
  const told = next(fresh);
  gateway.emit(nodeStarted(B, 3));
  match(await told ?? "", /^id: 3\n/);
  await fresh.return(undefined);
});

Deno.test("a stream of events ends with a reset when the log becomes another one", async () => {
  const reset = (idx: number) => `event: reset\ndata: {"last_event_applied_idx":${idx}}`;
  const { gateway, get } = appOver();
  const followed = messagesOf(await get("/events?since=0", STREAM));
  await next(followed);
  const told = next(followed);
  // Another node's snapshot took the place of all events.
  gateway.compact();
  gateway.reign = { clock: 9, nodeId: B };
  gateway.emit(nodeStarted(B));
  equal(await told, reset(1));
  equal(await next(followed), undefined);
  const beyond = messagesOf(await get("/events?since=1000", STREAM));
  equal(await next(beyond), reset(1));
  equal(await next(beyond), undefined);
  equal(gateway.listenerCount, 0);
});

Deno.test("snakeFields() renames fields, and neither ids nor tags", () => {
  const peer = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";
  const value = { nLayers: [{ kvBits: 8 }], [peer]: null, "org/aModel": 1, MlxRing: "aB", at: 2 };
  deepEqual(snakeFields(value), {
    n_layers: [{ kv_bits: 8 }],
    [peer]: null,
    "org/aModel": 1,
    MlxRing: "aB",
    at: 2,
  });
});
