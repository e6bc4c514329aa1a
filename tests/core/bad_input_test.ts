/** What comes from outside and cannot be: refused with a reason, never applied, never fatal. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { admit } from "../../core/admission.ts";
import { apply } from "../../core/apply.ts";
import { Command } from "../../core/commands.ts";
import { AppError } from "../../core/errors.ts";
import { Event, IndexedEvent } from "../../core/events.ts";
import { LINK_INSTANCES_MAX } from "../../core/instance_link.ts";
import { decide } from "../../core/master.ts";
import { NODES_MAX } from "../../core/placement_request.ts";
import { encodeState } from "../../core/state.ts";
import {
  A,
  B,
  cardOf,
  created,
  decideContext,
  fold,
  instanceOf,
  MODEL,
  nodeStarted,
  placementOf,
  reported,
  taskCreated,
  taskOf,
} from "../support/fixtures.ts";
import { linkCreated, metaCreated, metaOf, socket, specOf } from "../support/control_plane.ts";

const STATE = fold([
  nodeStarted(A),
  nodeStarted(B),
  socket(A, B),
  created(instanceOf("i")),
  reported("i:0", "RunnerReady"),
  taskCreated(taskOf("t", "i")),
  metaCreated(metaOf("m")),
  linkCreated("L", ["i"], ["i"]),
]);
const BEFORE = encodeState(STATE);

const long = "x".repeat(2_000);
const EVENTS: readonly [string, unknown][] = [
  ["no object", "NodeStarted"],
  ["nothing", undefined],
  ["no type", { nodeId: A }],
  ["an unknown type", { type: "NodeExploded", nodeId: A }],
  ["a command's type", { type: "DeleteInstance", commandId: "c", instanceId: "i" }],
  ["a field that is missing", { type: "NodeTimedOut" }],
  ["a field of another type", { type: "NodeTimedOut", nodeId: 7 }],
  ["an empty id", { type: "NodeTimedOut", nodeId: "" }],
  ["an id without end", { type: "InstanceDeleted", instanceId: long }],
  ["an unknown status", { ...reported("i:0", "RunnerReady"), status: { type: "RunnerHappy" } }],
  ["a negative count", { ...reported("i:0", "RunnerReady"), incarnation: -1 }],
  ["an edge of no kind", {
    type: "TopologyEdgeCreated",
    connection: { source: A, sink: B, edge: { type: "Rope" } },
  }],
  ["an address without end", {
    type: "TopologyEdgeCreated",
    connection: { source: A, sink: B, edge: { type: "SocketConnection", sinkMultiaddr: long } },
  }],
  ["diagnostics without end", {
    ...reported("i:0", "RunnerFailed"),
    status: { type: "RunnerFailed", reason: "x", diagnostics: Array(51).fill("x") },
  }],
  ["interfaces without end", {
    type: "NodeGatheredInfo",
    nodeId: A,
    incarnation: 1,
    info: {
      type: "NodeNetworkInterfaces",
      interfaces: Array(257).fill({ name: "a", ipAddress: "b", interfaceType: "wifi" }),
    },
  }],
  ["a fact of no kind", {
    type: "NodeGatheredInfo",
    nodeId: A,
    incarnation: 1,
    info: { type: "Horoscope" },
  }],
];
for (const [what, event] of EVENTS) {
  Deno.test(`an event is refused that is or has ${what}, with the reason`, () => {
    const parsed = Event.safeParse(event);
    assert.equal(parsed.success, false);
    assert.notEqual(parsed.error?.issues.length, 0);
    const indexed = { idx: STATE.lastEventAppliedIdx + 1, epoch: { clock: 1, nodeId: A }, event };
    assert.equal(IndexedEvent.safeParse(indexed).success, false);
  });
}

const many = <T>(count: number, value: T): T[] => Array(count).fill(value);
const c = { commandId: "c" };
const COMMANDS: readonly [string, unknown][] = [
  ["an unknown type", { type: "FormatDisk", ...c }],
  ["an event's type", { type: "NodeTimedOut", ...c, nodeId: A }],
  ["no id of its own", { type: "DeleteInstance", instanceId: "i" }],
  ["an id without end", { type: "DeleteInstance", commandId: long, instanceId: "i" }],
  ["links without end", {
    type: "SetInstanceLink",
    ...c,
    linkId: "L",
    prefillInstances: many(LINK_INSTANCES_MAX + 1, "i"),
    decodeInstances: ["i"],
  }],
  ["nodes without end", {
    type: "PlaceInstance",
    ...c,
    instanceId: "j",
    request: { modelId: MODEL, nodeIds: many(NODES_MAX + 1, A) },
  }],
  ["no nodes at all", {
    type: "PlaceInstance",
    ...c,
    instanceId: "j",
    request: { modelId: MODEL, minNodes: 0 },
  }],
  ["an unknown preference", {
    type: "PlaceInstance",
    ...c,
    instanceId: "j",
    request: { modelId: MODEL, prefer: "cheapest" },
  }],
  ["retries without end", {
    type: "CreateMetaInstance",
    ...c,
    instanceId: "j",
    metaInstance: { metaInstanceId: "n", modelId: MODEL, maxRetries: 1e9 },
  }],
  ["a key of no kind", {
    type: "MergeLineage",
    ...c,
    segments: [],
    modelCards: [],
    metaInstances: [],
    instances: [],
    links: [],
    deleted: [{ key: "node:a", stamp: { epoch: { clock: 1, nodeId: A }, idx: 0 } }],
  }],
];
for (const [what, command] of COMMANDS) {
  Deno.test(`a command is refused that has ${what}, with the reason`, () => {
    const parsed = Command.safeParse(command);
    assert.equal(parsed.success, false);
    assert.notEqual(parsed.error?.issues.length, 0);
  });
}

const x = "unknown";
const FOREIGN: readonly unknown[] = [
  { type: "DeleteInstance", ...c, instanceId: x },
  { type: "DeleteInstanceLink", ...c, linkId: x },
  { type: "DeleteMetaInstance", ...c, metaInstanceId: x },
  { type: "RetryMetaInstance", ...c, metaInstanceId: x },
  { type: "DeleteCustomModelCard", ...c, modelId: x },
  { type: "TextGeneration", ...c, modelId: x, apiNodeId: A },
  { type: "TextGeneration", commandId: "t", modelId: MODEL, apiNodeId: A },
  { type: "PlaceInstance", ...c, instanceId: "j", request: placementOf() },
  {
    type: "PlaceInstance",
    ...c,
    instanceId: "j",
    modelCard: cardOf(),
    request: placementOf({ exact: true }),
  },
  { type: "CreateInstance", ...c, instance: instanceOf("j", [x as typeof A]) },
  { type: "SetInstanceLink", ...c, linkId: "M", prefillInstances: [x], decodeInstances: ["i"] },
  {
    type: "CreateMetaInstance",
    ...c,
    instanceId: "j",
    metaInstance: specOf("n", { nodeIds: [A], excludedNodeIds: [A] }),
  },
];
for (const [at, input] of FOREIGN.entries()) {
  const command = Command.parse(input);
  Deno.test(`a command about what is not there is rejected: ${command.type}, case ${at}`, () => {
    assert.throws(() => decide(STATE, command, decideContext(new Map())), (thrown) => {
      assert.ok(thrown instanceof AppError, String(thrown));
      assert.ok(thrown.message.length > 10);
      return true;
    });
    assert.equal(encodeState(STATE), BEFORE);
  });
}

Deno.test("cancelling or finishing what is not there is content: it is over", () => {
  for (
    const command of [
      { type: "TaskCancelled" as const, ...c, cancelledCommandId: x },
      { type: "TaskFinished" as const, ...c, finishedCommandId: x },
    ]
  ) {
    const { events } = decide(STATE, Command.parse(command), decideContext(new Map()));
    assert.deepEqual(events, []);
  }
});

/** Events that have the right form, about anything at all. */
const anyId = fc.oneof(
  fc.constantFrom("i", "i:0", "t", "m", "L", A, B),
  fc.string({ minLength: 1 }),
);
const anyNumber = fc.nat();
const anyForm: fc.Arbitrary<unknown> = fc.oneof(
  fc.record({ type: fc.constant("NodeTimedOut"), nodeId: anyId }),
  fc.record({ type: fc.constant("InstanceDeleted"), instanceId: anyId, failureError: fc.string() }),
  fc.record({
    type: fc.constant("InstanceRetrying"),
    instanceId: anyId,
    failureError: fc.string(),
    notBefore: anyNumber,
  }),
  fc.record({ type: fc.constant("InstanceRetriesReset"), instanceId: anyId }),
  fc.record({
    type: fc.constant("RunnerStatusUpdated"),
    runnerId: anyId,
    status: fc.record({ type: fc.constantFrom("RunnerIdle", "RunnerReady", "RunnerShutdown") }),
    incarnation: anyNumber,
    at: anyNumber,
  }),
  fc.record({
    type: fc.constant("TaskStatusUpdated"),
    taskId: anyId,
    taskStatus: fc.constantFrom("Pending", "Running", "Complete", "TimedOut"),
  }),
  fc.record({ type: fc.constant("TaskDeleted"), taskId: anyId }),
  fc.record({
    type: fc.constant("NodeDownloadProgress"),
    nodeId: anyId,
    modelId: anyId,
    status: fc.record({ type: fc.constantFrom("DownloadPending", "DownloadOngoing") }),
  }),
  fc.record({ type: fc.constant("InstanceLinkDeleted"), linkId: anyId }),
  fc.record({ type: fc.constant("MetaInstanceDeleted"), metaInstanceId: anyId }),
  fc.record({ type: fc.constant("MetaInstanceRearmed"), metaInstanceId: anyId }),
  fc.record({
    type: fc.constantFrom("TopologyEdgeCreated", "TopologyEdgeDeleted"),
    connection: fc.record({
      source: anyId,
      sink: anyId,
      edge: fc.record({ type: fc.constant("SocketConnection"), sinkMultiaddr: anyId }),
    }),
  }),
);

Deno.test("apply() is total: whatever has the form of an event has a state after it", () => {
  fc.assert(fc.property(fc.array(anyForm, { maxLength: 20 }), (forms) => {
    const events = forms.map((form) => Event.parse(form));
    fold(events, STATE);
    assert.equal(encodeState(STATE), BEFORE);
  }));
});

Deno.test("admit() is total and idempotent: what it let in is nothing new", () => {
  const from = fc.constantFrom(A, B, undefined);
  fc.assert(
    fc.property(anyForm, from, (form, from) => {
      const report = Event.parse(form);
      const events = admit(STATE, report, from);
      assert.deepEqual(admit(fold(events, STATE), report, from), []);
    }),
    { numRuns: 500 },
  );
});

Deno.test("an index that is not due is refused, and the state is as before", () => {
  const event = nodeStarted(A, 2);
  for (const idx of [-1, 0, 7, 9, 1.5, NaN]) {
    assert.throws(() => apply(STATE, { idx, epoch: { clock: 1, nodeId: A }, event }));
  }
  assert.equal(encodeState(STATE), BEFORE);
});
