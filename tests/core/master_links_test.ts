import assert from "node:assert/strict";
import type { Command } from "../../core/commands.ts";
import type { Event } from "../../core/events.ts";
import type { NodeId } from "../../core/ids.ts";
import { decide } from "../../core/master.ts";
import { linkObstacle, prefillSource } from "../../core/prefill_source.ts";
import type { State } from "../../core/state.ts";
import { NO_TELEMETRY } from "../../core/telemetry.ts";
import type { TaskType } from "../../core/task.ts";
import {
  A,
  B,
  C,
  commandId,
  created,
  decideContext,
  fold,
  instanceId,
  instanceOf,
  MODEL,
  nodeStarted,
  reported,
  taskCreated,
  taskOf,
} from "../support/fixtures.ts";
import { linkCreated, linkId, socket } from "../support/control_plane.ts";
import { rejects } from "../support/rejects.ts";

const on = (state: State, command: Command) => decide(state, command, decideContext(new Map()));
const c = { commandId: commandId("t") };
const setting = (prefill: readonly string[], decode: readonly string[]): Command => ({
  type: "SetInstanceLink",
  ...c,
  linkId: linkId("L"),
  prefillInstances: prefill.map(instanceId),
  decodeInstances: decode.map(instanceId),
});

/** A prefills on node A and B decodes on node B, both ready. */
const ready: readonly Event[] = [
  nodeStarted(A),
  nodeStarted(B),
  created(instanceOf("a", [A])),
  created(instanceOf("b", [B])),
  reported("a:0", "RunnerReady"),
  reported("b:0", "RunnerReady"),
];
const STATE = fold(ready);

Deno.test("SetInstanceLink names each instance once, in the order given", () => {
  const { events } = on(STATE, setting(["a", "a"], ["b", "a", "b"]));
  assert.deepEqual(events, [linkCreated("L", ["a"], ["b", "a"])]);
  assert.deepEqual(on(fold(events, STATE), setting(["a"], ["b", "a"])).events, [], "known already");
});

Deno.test("SetInstanceLink needs instances that are there, at both ends", () => {
  rejects(
    () => on(STATE, setting([], ["b"])),
    "invalid_request",
    /no prefill instance, one needed/,
  );
  rejects(() => on(STATE, setting(["a"], [])), "invalid_request", /no decode instance, one needed/);
  rejects(() => on(STATE, setting(["a"], ["x"])), "instance_not_found", /"x" not found/);
});

Deno.test("DeleteInstanceLink deletes a link that is there", () => {
  const remove: Command = { type: "DeleteInstanceLink", ...c, linkId: linkId("L") };
  const state = fold([linkCreated("L", ["a"], ["b"])], STATE);
  assert.deepEqual(on(state, remove).events, [{ type: "InstanceLinkDeleted", linkId: "L" }]);
  rejects(() => on(STATE, remove), "not_found", /Link "L" not found/);
  const other = fold([linkCreated("other", ["a"], ["b"])], STATE);
  assert.throws(() => on(other, remove), { hint: "links: other" });
});

const asking = (type: TaskType): Command => ({ type, ...c, modelId: MODEL, apiNodeId: A });
const taskFor = (state: State, type: TaskType = "TextGeneration") => {
  const [event] = on(state, asking(type)).events;
  assert.ok(event?.type === "TaskCreated");
  return event.task;
};
const prefills = (id: string): Event => ({
  ...reported(id, "RunnerReady"),
  status: { type: "RunnerReady", prefillTokensPerSecond: 700 },
});
const from = (id: string, nodeId: NodeId) => ({ instanceId: instanceId(id), nodeId });
const linked = [...ready, linkCreated("L", ["a"], ["b"])];

Deno.test("LB3: text goes to the decoding instance, with who may prefill if that is known", () => {
  assert.deepEqual(taskFor(fold(linked)), taskOf("t", "b"));
  assert.deepEqual(taskFor(fold([...linked, socket(B, A)])), taskOf("t", "b"), "it serves none");
  assert.deepEqual(taskFor(fold([...linked, prefills("a:0")])), taskOf("t", "b"), "no way");
  const both = fold([...linked, prefills("a:0"), socket(B, A, "10.0.0.1")]);
  assert.deepEqual(taskFor(both), taskOf("t", "b", { prefill: from("a", A) }));
});

Deno.test("LB3: images go to either", () => {
  const state = fold([...linked, prefills("a:0"), socket(B, A)]);
  for (const type of ["ImageGeneration", "ImageEdits"] as const) {
    assert.deepEqual(taskFor(state, type), taskOf("t", "a", { type }));
    const busy = fold([taskCreated(taskOf("x", "a"))], state);
    assert.deepEqual(taskFor(busy, type), taskOf("t", "b", { type }), "images are not prefilled");
  }
});

Deno.test("LB4: instances that prefill for each other both take text", () => {
  const state = fold([...linked, linkCreated("M", ["b"], ["a"])]);
  assert.equal(taskFor(state).instanceId, "a");
  assert.equal(taskFor(fold([taskCreated(taskOf("x", "a"))], state)).instanceId, "b");
});

Deno.test("LB5: an instance that only prefills is none for text, and the message says so", () => {
  const state = fold([...linked, { type: "InstanceDeleted", instanceId: instanceId("b") }]);
  assert.equal(taskFor(state).instanceId, "a", "its link has gone with the other");
  const other = instanceOf("c", [B]);
  const elsewhere = { ...other, shardAssignments: { ...other.shardAssignments, modelId: "x" } };
  const only = fold([
    nodeStarted(A),
    created(instanceOf("a")),
    created(elsewhere as typeof other),
    reported("a:0", "RunnerReady"),
    linkCreated("L", ["a"], ["c"]),
  ]);
  rejects(
    () => on(only, asking("TextGeneration")),
    "model_not_found",
    /No instance found for model .*: a only prefills for others/,
  );
});

const THREE = [
  ...ready,
  nodeStarted(C),
  created(instanceOf("c", [C])),
  reported("c:0", "RunnerReady"),
];
const source = (...events: readonly Event[]) => taskFor(fold([...THREE, ...events])).prefill;
const serving = [prefills("a:0"), prefills("c:0")];
const toBoth = [socket(B, A, "10.0.0.1"), socket(B, C, "10.0.0.3")];
const two = [linkCreated("L", ["a", "b", "c"], ["b"]), linkCreated("M", ["a"], ["b"])];

Deno.test("the least busy of the prefilling instances takes the prompt, the first of equals", () => {
  assert.deepEqual(source(...two, ...serving, ...toBoth), from("a", A));
  const busy = taskCreated(taskOf("x", "a"));
  assert.deepEqual(source(...two, ...serving, ...toBoth, busy), from("c", C));
  const reading = taskCreated(taskOf("x", "b", { prefill: from("a", A) }));
  assert.deepEqual(source(...two, ...serving, ...toBoth, reading), from("c", C), "it reads for b");
  const over = taskCreated(taskOf("x", "b", { prefill: from("a", A), taskStatus: "Failed" }));
  assert.deepEqual(source(...two, ...serving, ...toBoth, over), from("a", A));
  const [, onlyC = busy] = serving;
  assert.deepEqual(source(...two, onlyC, ...toBoth), from("c", C), "the other serves none");
});

Deno.test("an instance that is linked to itself prefills by itself", () => {
  const self = fold([
    nodeStarted(A),
    nodeStarted(B),
    created(instanceOf("i", [A, B])),
    reported("i:0", "RunnerReady"),
    prefills("i:1"),
    socket(A, B),
    linkCreated("L", ["i"], ["i"]),
  ]);
  assert.deepEqual(taskFor(self), taskOf("t", "i"));
});

Deno.test("an instance of several ranks prefills for nobody: each has a part of the keys", () => {
  const link = linkCreated("L", ["w"], ["b"]);
  const wide = [created(instanceOf("w", [A, C])), prefills("w:0"), prefills("w:1")];
  assert.equal(source(...wide, link, ...toBoth), undefined);
});

Deno.test("an instance of several ranks has nobody prefill for it", () => {
  const wide = [created(instanceOf("w", [B, C])), reported("w:0", "RunnerReady")];
  const state = fold([...THREE, ...wide, prefills("a:0"), linkCreated("L", ["a"], ["w"])]);
  const decode = state.instances.get(instanceId("w"));
  assert.ok(decode);
  const options = { telemetry: NO_TELEMETRY, load: () => 0 };
  assert.equal(prefillSource(fold(toBoth, state), decode, options), undefined);
});

Deno.test("what keeps linked instances from taking part is told", () => {
  const wide = instanceOf("w", [A, C]);
  const [a, b] = [instanceOf("a"), instanceOf("b", [B])];
  const state = fold([...THREE, created(wide), prefills("b:0")]);
  assert.match(linkObstacle(state, wide, "prefill") ?? "", /over 2 nodes, .* all of them needed/);
  assert.match(linkObstacle(state, wide, "decode") ?? "", /over 2 nodes/);
  assert.match(linkObstacle(state, a, "prefill") ?? "", /keys and values that cannot travel/);
  assert.equal(linkObstacle(state, a, "decode"), undefined);
  assert.equal(linkObstacle(state, b, "prefill"), undefined);
  const loading = fold([reported("a:0", "RunnerLoaded")], state);
  assert.equal(linkObstacle(loading, a, "prefill"), undefined, "it may yet serve");
  const unknown = instanceOf("u");
  assert.equal(linkObstacle(state, unknown, "prefill"), undefined);
});

Deno.test("no way leads over a name or a cable", () => {
  const named = socket(B, A);
  const { connection } = named;
  const dns = { type: "SocketConnection" as const, sinkMultiaddr: "/dns/mac/tcp/1" };
  const rdma = { type: "RdmaConnection" as const, sourceRdmaIface: "a", sinkRdmaIface: "b" };
  const edges = [dns, rdma].map((edge): Event => ({
    type: "TopologyEdgeCreated",
    connection: { ...connection, edge },
  }));
  assert.equal(source(linkCreated("L", ["a"], ["b"]), ...serving, ...edges), undefined);
});

Deno.test("a linked instance of another decoder, and one that is gone, prefill nothing", () => {
  const gone = fold([...linked, prefills("a:0"), socket(B, A)]);
  const { instances } = fold([{ type: "InstanceDeleted", instanceId: instanceId("a") }], gone);
  assert.equal(taskFor({ ...gone, instances }).prefill, undefined);
});
