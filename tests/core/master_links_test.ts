import assert from "node:assert/strict";
import type { Command } from "../../core/commands.ts";
import type { Event } from "../../core/events.ts";
import type { NodeId } from "../../core/ids.ts";
import type { InstanceLink } from "../../core/instance_link.ts";
import type { Instance } from "../../core/instance.ts";
import { decide } from "../../core/master.ts";
import {
  isPrefillOnly,
  type LinkEnd,
  linkObstacle,
  prefillSource,
} from "../../core/prefill_source.ts";
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
  assert.deepEqual(taskFor(fold([...linked, socket(B, A)])), taskOf("t", "a"), "it serves none");
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
  const only = fold([
    nodeStarted(A),
    created(instanceOf("a")),
    reported("a:0", "RunnerReady"),
    prefills("a:0"),
    linkCreated("L", ["a"], ["c"]), // Of c nothing is known yet.
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
  const state = fold([...THREE, ...two, onlyC, ...toBoth]);
  const options = { telemetry: NO_TELEMETRY, load: () => 0 };
  const of = prefillSource(state, instanceOf("b", [B]), options);
  assert.deepEqual(of, from("c", C), "the other serves none");
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

/** With its nodes in another order than its ranks. */
function reversed(instance: Instance): Instance {
  const { shardAssignments } = instance;
  const nodeToRunner = Object.fromEntries(Object.entries(shardAssignments.nodeToRunner).reverse());
  return { ...instance, shardAssignments: { ...shardAssignments, nodeToRunner } };
}

Deno.test("an instance of several ranks prefills by way of the first", () => {
  const link = linkCreated("L", ["w"], ["b"]);
  const options = { telemetry: NO_TELEMETRY, load: () => 0 };
  const sourceOf = (...events: readonly Event[]) =>
    prefillSource(fold([...THREE, ...events, link]), instanceOf("b", [B]), options);
  for (const wide of [instanceOf("w", [A, C]), reversed(instanceOf("w", [A, C]))]) {
    const serves = [created(wide), prefills("w:0")];
    assert.deepEqual(sourceOf(...serves, ...toBoth), from("w", A));
    assert.equal(sourceOf(...serves, socket(B, C)), undefined, "no way to the first");
    const other = [created(wide), reported("w:0", "RunnerReady"), prefills("w:1")];
    assert.equal(sourceOf(...other, ...toBoth), undefined, "its first rank serves none");
  }
});

Deno.test("an instance of several ranks is prefilled for by way of the first", () => {
  const wide = instanceOf("w", [B, C]);
  for (const decode of [wide, reversed(wide)]) {
    const events = [created(decode), prefills("a:0"), linkCreated("L", ["a"], ["w"])];
    const options = { telemetry: NO_TELEMETRY, load: () => 0 };
    const state = fold([...THREE, ...events]);
    assert.deepEqual(prefillSource(fold([socket(B, A)], state), decode, options), from("a", A));
    assert.equal(prefillSource(fold([socket(C, A)], state), decode, options), undefined);
  }
});

const linkOf = (prefill: readonly string[], decode: readonly string[]): InstanceLink => {
  const event = linkCreated("L", prefill, decode);
  assert.ok(event.type === "InstanceLinkCreated");
  return event.link;
};

Deno.test("what keeps linked instances from taking part is told", () => {
  const wide = instanceOf("w", [A, C]);
  const [a, b] = [instanceOf("a"), instanceOf("b", [B])];
  const state = fold([...THREE, created(wide), reported("w:0", "RunnerReady"), prefills("b:0")]);
  const link = linkOf(["a", "w", "b"], ["a", "w", "b"]);
  const told = (instance: Instance, end: LinkEnd, at: State = state) =>
    linkObstacle(at, instance, { end, link });
  assert.match(told(a, "prefill") ?? "", /keys and values that cannot travel/);
  assert.match(told(wide, "prefill") ?? "", /keys and values that cannot travel/);
  assert.equal(told(a, "decode"), undefined);
  assert.equal(told(wide, "decode"), undefined);
  assert.equal(told(b, "prefill"), undefined);
  const serves = fold([prefills("w:0")], state);
  assert.equal(told(wide, "prefill", serves), undefined);
  const loading = fold([reported("a:0", "RunnerLoaded")], state);
  assert.equal(told(a, "prefill", loading), undefined, "it may yet serve");
  assert.equal(told(instanceOf("u"), "prefill"), undefined);
});

Deno.test("instances of another model or cache have nothing for each other, and it is told", () => {
  const q8 = instanceOf("q8", [C], { config: { kvBits: 8 } });
  const b = instanceOf("b", [B]);
  const { shardAssignments } = instanceOf("x", [A]);
  const x = { ...instanceOf("x", [A]), shardAssignments: { ...shardAssignments, modelId: "x" } };
  const state = fold([
    ...[A, B, C].map((nodeId) => nodeStarted(nodeId)),
    ...[q8, b, x as Instance].map(created),
    ...["q8:0", "b:0", "x:0"].map(prefills),
    ...[socket(B, C), socket(B, A)],
  ]);
  const told = (instance: Instance, end: LinkEnd, link: InstanceLink) =>
    linkObstacle(state, instance, { end, link });
  const caches = linkOf(["q8"], ["b"]);
  const of8 = "its cache is kept in 8 bits, that at the other end as its device does best";
  assert.equal(told(q8, "prefill", caches), of8);
  assert.match(told(b, "decode", caches) ?? "", /its cache is kept as its device does best/);
  const models = linkOf(["x"], ["b"]);
  assert.match(told(x as Instance, "prefill", models) ?? "", /its model is x/);
  assert.equal(told(q8, "prefill", linkOf(["q8"], ["b", "q8", "gone"])), of8);
  const options = { telemetry: NO_TELEMETRY, load: () => 0 };
  const linked = fold([linkCreated("L", ["q8", "x"], ["b"])], state);
  assert.equal(prefillSource(linked, b, options), undefined);
});

Deno.test("an instance that can prefill for nobody goes on answering by itself", () => {
  const link = linkCreated("L", ["a"], ["b"]);
  const state = fold([...ready, link]);
  assert.ok(!isPrefillOnly(state, instanceId("a")), "its keys and values cannot travel");
  const serves = fold([prefills("a:0")], state);
  assert.ok(isPrefillOnly(serves, instanceId("a")));
  assert.ok(!isPrefillOnly(serves, instanceId("b")), "it decodes");
  assert.ok(!isPrefillOnly(serves, instanceId("gone")));
  const both = fold([linkCreated("M", ["b"], ["a"])], serves);
  assert.ok(!isPrefillOnly(both, instanceId("a")), "it decodes as well");
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
