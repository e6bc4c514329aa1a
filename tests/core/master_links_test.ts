import assert from "node:assert/strict";
import type { Command } from "../../core/commands.ts";
import type { Event } from "../../core/events.ts";
import type { NodeId } from "../../core/ids.ts";
import { decide } from "../../core/master.ts";
import type { State } from "../../core/state.ts";
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
import { gathered, linkCreated, linkId, socket } from "../support/control_plane.ts";
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
const prefills = (id: string, port: number): Event => ({
  ...reported(id, "RunnerReady"),
  status: { type: "RunnerReady", prefillServerPort: port },
});
const linked = [...ready, linkCreated("L", ["a"], ["b"])];

Deno.test("LB3: text goes to the decoding instance, with an endpoint if one is known", () => {
  assert.deepEqual(taskFor(fold(linked)), taskOf("t", "b"));
  assert.deepEqual(taskFor(fold([...linked, socket(B, A)])), taskOf("t", "b"), "no port");
  assert.deepEqual(taskFor(fold([...linked, prefills("a:0", 7_000)])), taskOf("t", "b"), "no way");
  const both = fold([...linked, prefills("a:0", 7_000), socket(B, A, "10.0.0.1")]);
  assert.deepEqual(taskFor(both), taskOf("t", "b", { prefillEndpoint: "10.0.0.1:7000" }));
});

Deno.test("LB3: images go to either", () => {
  const state = fold([...linked, prefills("a:0", 7_000), socket(B, A)]);
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
const endpoint = (...events: readonly Event[]) =>
  taskFor(fold([...THREE, ...events])).prefillEndpoint;
const ports = [prefills("a:0", 7_000), prefills("c:0", 8_000)];
const toBoth = [socket(B, A, "10.0.0.1"), socket(B, C, "10.0.0.3")];
const two = [linkCreated("L", ["a", "b", "c"], ["b"]), linkCreated("M", ["a"], ["b"])];

Deno.test("the least busy of the prefilling instances takes the prompt, the first of equals", () => {
  assert.equal(endpoint(...two, ...ports, ...toBoth), "10.0.0.1:7000");
  const busy = taskCreated(taskOf("x", "a"));
  assert.equal(endpoint(...two, ...ports, ...toBoth, busy), "10.0.0.3:8000");
  const [, onlyC = busy] = ports;
  assert.equal(endpoint(...two, onlyC, ...toBoth), "10.0.0.3:8000", "the other has no port");
});

Deno.test("an instance that is linked to itself prefills by itself", () => {
  const self = fold([
    nodeStarted(A),
    nodeStarted(B),
    created(instanceOf("i", [A, B])),
    reported("i:0", "RunnerReady"),
    prefills("i:1", 7_000),
    socket(A, B),
    linkCreated("L", ["i"], ["i"]),
  ]);
  assert.deepEqual(taskFor(self), taskOf("t", "i"));
});

const addresses = (nodeId: NodeId, ...types: ["wifi" | "thunderbolt" | "ethernet", string][]) =>
  gathered(nodeId, {
    type: "NodeNetworkInterfaces",
    interfaces: types.map(([interfaceType, ipAddress]) => ({
      name: "en0",
      ipAddress,
      interfaceType,
    })),
  });

Deno.test("the way to it is the best that a ring would take, the newest of equals", () => {
  const link = linkCreated("L", ["a"], ["b"]);
  const known = addresses(A, ["wifi", "10.0.0.1"], ["thunderbolt", "10.0.0.2"]);
  const three = ["10.0.0.1", "10.0.0.2", "10.0.0.9"].map((ip) => socket(B, A, ip));
  assert.equal(endpoint(link, ...ports, ...three, known), "10.0.0.2:7000");
  assert.equal(endpoint(link, ...ports, ...three), "10.0.0.9:7000");
  assert.equal(endpoint(link, ...ports, socket(B, A, "fd00::1")), "[fd00::1]:7000");
});

Deno.test("no way leads over a name or a cable", () => {
  const named = socket(B, A);
  const { source, sink } = named.connection;
  const dns = { type: "SocketConnection" as const, sinkMultiaddr: "/dns/mac/tcp/1" };
  const rdma = { type: "RdmaConnection" as const, sourceRdmaIface: "a", sinkRdmaIface: "b" };
  const edges = [dns, rdma].map((edge): Event => ({
    type: "TopologyEdgeCreated",
    connection: { source, sink, edge },
  }));
  assert.equal(endpoint(linkCreated("L", ["a"], ["b"]), ...ports, ...edges), undefined);
});

Deno.test("a linked instance of another decoder, and one that is gone, prefill nothing", () => {
  const gone = fold([...linked, prefills("a:0", 7_000), socket(B, A)]);
  const { instances } = fold([{ type: "InstanceDeleted", instanceId: instanceId("a") }], gone);
  assert.equal(taskFor({ ...gone, instances }).prefillEndpoint, undefined);
});
