import assert from "node:assert/strict";
import { AppError, type ErrorCode } from "../../core/errors.ts";
import type { Event } from "../../core/events.ts";
import { ModelId } from "../../core/ids.ts";
import { accepted, decide, instanceEnd, isReady, rejected } from "../../core/master.ts";
import type { State } from "../../core/state.ts";
import type { TaskStatus } from "../../core/task.ts";
import { GIB } from "../../core/units.ts";
import {
  A,
  B,
  C,
  cardOf,
  commandId,
  created,
  decideContext,
  downloaded,
  fold,
  instanceId,
  instanceOf,
  memoryOf,
  MODEL,
  nodeStarted,
  placementOf,
  reported,
  runnerId,
  taskCreated,
  taskId,
  taskOf,
} from "../support/fixtures.ts";
import { metaId } from "../support/control_plane.ts";
import { rejects } from "../support/rejects.ts";

type Command = Parameters<typeof decide>[1];

const MEMORY = memoryOf(8 * GIB);
const cardAdded: Event = { type: "CustomModelCardAdded", modelCard: cardOf() };
const known = [nodeStarted(A), cardAdded];

const on = (state: State, command: Command) => decide(state, command, decideContext(MEMORY)).events;
const text = (id = "t"): Command => ({
  type: "TextGeneration",
  commandId: commandId(id),
  modelId: MODEL,
  apiNodeId: A,
});
const remove = (id: string): Command => ({
  type: "DeleteInstance",
  commandId: commandId("c"),
  instanceId: instanceId(id),
});
const placing = (fields: Parameters<typeof placementOf>[0] = {}): Command => ({
  type: "PlaceInstance",
  commandId: commandId("c"),
  instanceId: instanceId("i"),
  request: placementOf(fields),
});
const creating = (instance = instanceOf("i")): Command => ({
  type: "CreateInstance",
  commandId: commandId("c"),
  instance,
});

/** Two ready instances of one model, with these tasks. */
function twoReady(...tasks: Event[]): State {
  const both = ["a", "b"].flatMap((id) => [
    created(instanceOf(id)),
    reported(`${id}:0`, "RunnerReady"),
  ]);
  return fold([...known, ...both, ...tasks]);
}

const taskIn = (id: string, instance: string, taskStatus: TaskStatus) =>
  taskCreated(taskOf(id, instance, { taskStatus }));

Deno.test("T2: PlaceInstance creates the instance under the id that came with it", () => {
  const events = on(fold(known), placing({ config: { contextTokens: 64 } }));
  assert.equal(events.length, 1);
  const [event] = events;
  assert.ok(event?.type === "InstanceCreated");
  assert.deepEqual(event.instance, instanceOf("i", [A], { config: { contextTokens: 64 } }));
});

Deno.test("T1: a PlaceInstance or a model card given twice makes nothing new", () => {
  const state = fold(on(fold(known), placing()), fold(known));
  assert.deepEqual(decide(state, placing(), decideContext(MEMORY)), {
    events: [],
    instanceId: "i",
  });
  const again: Command = {
    type: "AddCustomModelCard",
    commandId: commandId("c"),
    modelCard: cardOf(),
  };
  assert.deepEqual(on(state, again), []);
});

Deno.test("PlaceInstance of a bundled model takes the card that comes along, the cluster's first", () => {
  const cardOfPlaced = (state: State) => {
    const command = { ...placing(), modelCard: cardOf({ license: "asker's" }) } as Command;
    const [event] = on(state, command);
    assert.ok(event?.type === "InstanceCreated");
    return event.instance.shardAssignments.runnerToShard[runnerId("i:0")]?.modelCard.license;
  };
  assert.equal(cardOfPlaced(fold([nodeStarted(A)])), "asker's");
  assert.equal(cardOfPlaced(fold(known)), undefined);
});

Deno.test("PlaceInstance is rejected when another model has its id, or it contradicts itself", () => {
  const state = fold(on(fold(known), placing()), fold(known));
  const other = placing({ modelId: ModelId.parse("other") });
  rejects(() => on(state, other), "conflict", /an instance of that id exists/);
  const none = placing({ exact: true });
  rejects(() => on(fold(known), none), "invalid_request", /none is given/);
});

Deno.test("PlaceInstance of an unknown model is rejected, and names known ones", () => {
  rejects(() => on(fold([nodeStarted(A)]), placing()), "model_not_found", /is not known/);
  assert.throws(
    () => on(fold(known), placing({ modelId: ModelId.parse("other") })),
    (thrown) => thrown instanceof AppError && thrown.hint === `known models: ${MODEL}`,
  );
});

Deno.test("PlaceInstance that fits nowhere is rejected with the reason of each node", () => {
  const state = fold([...known, nodeStarted(B)]);
  rejects(
    () => decide(state, placing(), decideContext(memoryOf(1024, [A]))),
    "placement_failed",
    /Cannot place .*node-a has 1\.0 KiB free.*; node node-b has not reported its memory/,
  );
});

Deno.test("T3: DeleteInstance without tasks is one InstanceDeleted", () => {
  const state = fold([created(instanceOf("i"))]);
  assert.deepEqual(on(state, remove("i")), [{ type: "InstanceDeleted", instanceId: "i" }]);
});

for (const status of ["Running", "Pending"] as const) {
  Deno.test(`T4: DeleteInstance cancels its ${status} task first`, () => {
    const state = fold([created(instanceOf("i")), taskIn("t", "i", status)]);
    assert.deepEqual(on(state, remove("i")), [
      { type: "TaskStatusUpdated", taskId: "t", taskStatus: "Cancelled" },
      { type: "InstanceDeleted", instanceId: "i" },
    ]);
  });
}

Deno.test("T5: DeleteInstance leaves ended tasks as they are", () => {
  const ended = ["Complete", "Failed", "TimedOut", "Cancelled"] as const;
  const tasks = ended.map((status) => taskIn(status, "i", status));
  const state = fold([created(instanceOf("i")), ...tasks]);
  assert.deepEqual(on(state, remove("i")), [{ type: "InstanceDeleted", instanceId: "i" }]);
});

Deno.test("T6: DeleteInstance touches no other instance", () => {
  const state = twoReady(taskIn("t", "a", "Running"), taskIn("u", "b", "Running"));
  assert.deepEqual(on(state, remove("a")), [
    { type: "TaskStatusUpdated", taskId: "t", taskStatus: "Cancelled" },
    { type: "InstanceDeleted", instanceId: "a" },
  ]);
});

Deno.test("DeleteInstance of an unknown instance is rejected", () => {
  rejects(() => on(fold([]), remove("x")), "instance_not_found", /"x" not found/);
});

Deno.test("instanceEnd() carries the reason of the end", () => {
  const state = fold([created(instanceOf("i"))]);
  assert.deepEqual(instanceEnd(state, instanceId("i"), "OOM"), [
    { type: "InstanceDeleted", instanceId: "i", failureError: "OOM" },
  ]);
});

Deno.test("T7, changed by D3: a node, a placement and a generation are an event each, metadata only", () => {
  const start = fold(known);
  const placement = on(start, placing());
  assert.deepEqual(placement.map(({ type }) => type), ["InstanceCreated"]);
  const placed = fold(placement, start);
  assert.equal(placed.lastEventAppliedIdx, known.length);
  const ready = fold([reported("i:0", "RunnerReady")], placed);
  const events = on(ready, text());
  assert.deepEqual(events, [{ type: "TaskCreated", task: taskOf("t", "i") }]);
  const [instance] = placed.instances.values();
  assert.ok(instance?.type === "MlxRingInstance");
  assert.deepEqual(instance.hostsByNode, {}, "no hop, no address");
  assert.equal(instance.shardAssignments.runnerToShard[runnerId("i:0")]?.endLayer, 16);
});

Deno.test("LB1: ended tasks do not count as load", () => {
  const ended = ["1", "2", "3", "4", "5"].map((id) => taskIn(id, "a", "Complete"));
  const state = twoReady(...ended, taskIn("6", "a", "Cancelled"), taskIn("7", "b", "Running"));
  assert.equal(decide(state, text(), decideContext(MEMORY)).instanceId, "a");
});

Deno.test("LB2: a tie goes to the older instance", () => {
  assert.equal(decide(twoReady(), text(), decideContext(MEMORY)).instanceId, "a");
  const two = twoReady(
    ...["1", "2"].map((id) => taskIn(id, "a", "Pending")),
    ...["3", "4"].map((id) => taskIn(id, "b", "Running")),
  );
  assert.equal(decide(two, text(), decideContext(MEMORY)).instanceId, "a");
});

/** A ready instance of each of these nodes, and nobody but A and C heard of lately. */
const apart: [State, Parameters<typeof decide>[2]] = [
  fold([
    ...["a", "b", "c"].flatMap((id, at) => [
      created(instanceOf(id, [[B], [A, B], [C]][at])),
      ...Array.from(
        { length: at === 1 ? 2 : 1 },
        (_, rank) => reported(`${id}:${rank}`, "RunnerReady"),
      ),
    ]),
    taskIn("1", "c", "Running"),
  ]),
  { ...decideContext(MEMORY), isHeard: (nodeId) => nodeId !== B },
];

Deno.test("a generation goes to nodes that were heard of lately, however busy, while there are any", () => {
  const [state, context] = apart;
  assert.equal(decide(state, text(), context).instanceId, "c");
  const silent = { ...context, isHeard: () => false };
  assert.equal(decide(state, text(), silent).instanceId, "a");
});

Deno.test("one that has just failed is asked again only where there is no other", () => {
  const [state, context] = apart;
  const avoiding = (id: string) => ({ ...text(), avoid: instanceId(id) } as Command);
  assert.equal(decide(state, avoiding("c"), context).instanceId, "a");
  assert.equal(decide(state, avoiding("a"), { ...context, isHeard: () => false }).instanceId, "b");
  const one = fold([created(instanceOf("i")), reported("i:0", "RunnerReady")]);
  assert.equal(decide(one, avoiding("i"), context).instanceId, "i");
});

Deno.test("a burst of generations is spread: each decision sees the one before it", () => {
  let state = twoReady();
  const chosen = ["1", "2", "3", "4"].map((id) => {
    const decision = decide(state, text(id), decideContext(MEMORY));
    state = fold(decision.events, state);
    return decision.instanceId;
  });
  assert.deepEqual(chosen, ["a", "b", "a", "b"]);
});

Deno.test("LB5: no instance of the model is an error", () => {
  rejects(() => on(fold(known), text()), "model_not_found", /No instance found for model/);
});

Deno.test("a generation with no ready instance is rejected, and says what the runner does", () => {
  const placed = [...known, created(instanceOf("i"))];
  const failing = (events: Event[], found: RegExp) =>
    rejects(() => on(fold([...placed, ...events]), text()), "not_ready", found);
  failing([], /i of .* is not ready: its runner is starting/);
  failing([reported("i:0", "RunnerLoading")], /its runner is Loading/);
  const retrying: Event = {
    type: "InstanceRetrying",
    instanceId: instanceId("i"),
    failureError: "OOM",
    notBefore: 1,
  };
  failing([retrying], /it failed and is retried \(OOM\)/);
  failing([retrying, reported("i:0", "RunnerIdle", { incarnation: 2 })], /its runner is Idle/);
});

Deno.test("a generation whose only instance waits for a node that is gone names that node", () => {
  const gone: Event = { type: "NodeTimedOut", nodeId: A };
  const state = fold([...known, created(instanceOf("i")), gone]);
  rejects(() => on(state, text()), "not_ready", /it waits for node node-a, which is gone/);
});

Deno.test("of an instance of many ranks all are named that do not answer yet", () => {
  const placed = [nodeStarted(B), created(instanceOf("i", [A, B]))];
  const state = fold([...known, ...placed, reported("i:1", "RunnerReady")]);
  rejects(() => on(state, text()), "not_ready", /its runners are starting, Ready/);
});

Deno.test("an instance is ready when each of its ranks is, absent counting as not", () => {
  const instance = instanceOf("i", [A, B]);
  const placed = fold([created(instance), reported("i:0", "RunnerRunning")]);
  assert.equal(isReady(placed, instance), false);
  assert.equal(isReady(fold([reported("i:1", "RunnerReady")], placed), instance), true);
});

Deno.test("a command given twice is rejected rather than run twice", () => {
  const state = twoReady(taskIn("t", "a", "Running"));
  rejects(() => on(state, text("t")), "conflict", /given already/);
});

Deno.test("TaskCancelled cancels a task in flight, and is content with any other", () => {
  const cancel = (id: string): Command => ({
    type: "TaskCancelled",
    commandId: commandId("c"),
    cancelledCommandId: commandId(id),
  });
  const state = twoReady(taskIn("t", "a", "Running"), taskIn("u", "a", "Complete"));
  const cancelled = { type: "TaskStatusUpdated", taskId: "t", taskStatus: "Cancelled" };
  assert.deepEqual(on(state, cancel("t")), [cancelled]);
  assert.deepEqual(on(state, cancel("u")), []);
  assert.deepEqual(on(state, cancel("missing")), []);
});

Deno.test("TaskFinished forgets the task; a second one is content", () => {
  const finish: Command = {
    type: "TaskFinished",
    commandId: commandId("c"),
    finishedCommandId: commandId("t"),
  };
  const state = twoReady(taskIn("t", "a", "Complete"));
  const events = on(state, finish);
  assert.deepEqual(events, [{ type: "TaskDeleted", taskId: "t" }]);
  assert.deepEqual(on(fold(events, state), finish), []);
  assert.equal(fold(events, state).tasks.has(taskId("t")), false);
});

Deno.test("CreateInstance takes an instance as it is given", () => {
  assert.deepEqual(on(fold(known), creating()), [created(instanceOf("i"))]);
});

Deno.test("CreateInstance is rejected when nodes, runners or layers are wrong", () => {
  const state = fold([...known, nodeStarted(B)]);
  const { shardAssignments } = instanceOf("i");
  const [shard] = Object.values(shardAssignments.runnerToShard);
  assert.ok(shard);
  const withAssignments = (fields: Record<string, unknown>) =>
    creating({ ...instanceOf("i"), shardAssignments: { ...shardAssignments, ...fields } });
  const cases: [Command, ErrorCode, RegExp][] = [
    [creating(instanceOf("i", [])), "placement_failed", /it names no node/],
    [creating(instanceOf("i", ["node-x" as never])), "placement_failed", /node-x is not known/],
    [creating(instanceOf("i", [A, B])), "invalid_request", /layers 0 to 16 of 16, from 16 on/],
    [withAssignments({ runnerToShard: {} }), "invalid_request", /i:0 has no shard/],
    [
      withAssignments({ runnerToShard: { "i:0": { ...shard, endLayer: 8 } } }),
      "invalid_request",
      /layers 0 to 8 of 16/,
    ],
    [
      withAssignments({ runnerToShard: { "i:0": shard, "i:1": shard } }),
      "invalid_request",
      /runner i:1 has no node/,
    ],
    [
      withAssignments({ modelId: ModelId.parse("other") }),
      "invalid_request",
      /found shards of local.tiny-0123abcd, other needed/,
    ],
  ];
  for (const [command, code, message] of cases) rejects(() => on(state, command), code, message);
});

Deno.test("CreateInstance is rejected when its id or its runner is taken, reported or not", () => {
  const state = fold([...known, created(instanceOf("i"))]);
  rejects(() => on(state, creating()), "conflict", /an instance of that id exists/);
  const thief = { ...instanceOf("i"), instanceId: instanceId("j") };
  rejects(() => on(state, creating(thief)), "conflict", /runner i:0 exists already/);
});

Deno.test("AddCustomModelCard notes the node that has the files", () => {
  const status = { type: "DownloadCompleted" as const, totalBytes: 1, readOnly: true };
  const command: Command = {
    type: "AddCustomModelCard",
    commandId: commandId("c"),
    modelCard: cardOf(),
    holder: { nodeId: A, status },
  };
  assert.deepEqual(on(fold([nodeStarted(A)]), command), [cardAdded, downloaded(A)]);
  assert.deepEqual(on(fold([]), command), [cardAdded], "of a node that is away nothing is noted");
  assert.deepEqual(on(fold([...known, downloaded(A)]), command), []);
});

Deno.test("DeleteCustomModelCard of a used or an unknown model is rejected", () => {
  const command: Command = {
    type: "DeleteCustomModelCard",
    commandId: commandId("c"),
    modelId: MODEL,
  };
  assert.deepEqual(on(fold(known), command), [{ type: "CustomModelCardDeleted", modelId: MODEL }]);
  rejects(() => on(fold([]), command), "model_not_found", /is not known/);
  const used = fold([...known, created(instanceOf("i"))]);
  rejects(() => on(used, command), "conflict", /found instance i of it/);
});

Deno.test("a reply names its command, and the reason of a rejection, whatever was thrown", () => {
  const decision = { events: [], instanceId: instanceId("i") };
  assert.deepEqual(accepted(text(), 7, decision), {
    type: "CommandAccepted",
    commandId: "t",
    idx: 7,
    instanceId: "i",
  });
  assert.deepEqual(accepted(text(), 7, { events: [], metaInstanceId: metaId("m") }), {
    type: "CommandAccepted",
    commandId: "t",
    idx: 7,
    metaInstanceId: "m",
  });
  const reply = rejected(text(), new TypeError("boom"));
  assert.deepEqual(reply, {
    type: "CommandRejected",
    commandId: "t",
    error: { code: "internal", message: "boom" },
  });
});

Deno.test("CreateInstance believes the cluster's card, not the client's, and checks the fit", () => {
  const instance = instanceOf("i");
  const { shardAssignments } = instance;
  const shards = Object.entries(shardAssignments.runnerToShard).map(([id, shard]) => {
    const modelCard = { ...shard.modelCard, storageSize: { inBytes: 9e14 } };
    return [id, { ...shard, modelCard }];
  });
  const runnerToShard = Object.fromEntries(shards);
  const lie = { ...instance, shardAssignments: { ...shardAssignments, runnerToShard } };
  assert.deepEqual(on(fold(known), creating(lie)), [created(instance)]);
  rejects(
    () => decide(fold(known), creating(), decideContext(memoryOf(1))),
    "placement_failed",
    /free/,
  );
});

Deno.test("MergeLineage is decided like any other command", () => {
  const branch = { modelCards: [], metaInstances: [], instances: [], links: [], deleted: [] };
  const segment = { epoch: { clock: 7, nodeId: B }, firstIdx: 0, lastIdx: 3 };
  const command: Command = {
    type: "MergeLineage",
    commandId: commandId("c"),
    against: fold(known).lineage.segments,
    segments: [segment],
    ...branch,
  };
  const events = on(fold(known), command);
  assert.deepEqual(events, [{ type: "LineageMerged", segments: [segment], ...branch }]);
  assert.deepEqual(on(fold(events, fold(known)), command), []);
});
