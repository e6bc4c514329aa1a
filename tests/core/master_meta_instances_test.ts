import assert from "node:assert/strict";
import type { Command } from "../../core/commands.ts";
import type { Event } from "../../core/events.ts";
import { decide } from "../../core/master.ts";
import type { ModelCard } from "../../core/model_card.ts";
import type { State } from "../../core/state.ts";
import { GIB } from "../../core/units.ts";
import {
  A,
  B,
  cardOf,
  commandId,
  created,
  decideContext,
  fold,
  instanceId,
  instanceOf,
  memoryOf,
  nodeStarted,
  taskCreated,
  taskOf,
} from "../support/fixtures.ts";
import { boundTo, metaCreated, metaId, metaOf, specOf } from "../support/control_plane.ts";
import { rejects } from "../support/rejects.ts";

const c = { commandId: commandId("c") };
const STATE = fold([nodeStarted(A), nodeStarted(B)]);
const ROOM = memoryOf(8 * GIB, [A, B]);

const creating = (
  fields: Parameters<typeof specOf>[1] = {},
  modelCard: ModelCard | undefined = cardOf(),
): Command => ({
  type: "CreateMetaInstance",
  ...c,
  metaInstance: specOf("m", fields),
  instanceId: instanceId("i"),
  ...(modelCard ? { modelCard } : {}),
});
const on = (state: State, command: Command, memory = ROOM) =>
  decide(state, command, decideContext(memory));
const typesOf = (events: readonly Event[]) => events.map(({ type }) => type);

Deno.test("CreateMetaInstance keeps the wish and fulfils it in the same decision", () => {
  const { events, metaInstanceId } = on(STATE, creating({ nodeIds: [B] }));
  assert.equal(metaInstanceId, "m");
  assert.deepEqual(events, [
    metaCreated(metaOf("m", { nodeIds: [B], modelCard: cardOf() })),
    created(boundTo("m", instanceOf("i", [B]))),
  ]);
});

Deno.test("CreateMetaInstance without a place says why in the same decision", () => {
  const { events } = on(STATE, creating(), memoryOf(1, [A, B]));
  assert.deepEqual(typesOf(events), ["MetaInstanceCreated", "MetaInstancePlacementFailed"]);
  const { placementError } = fold(events, STATE).metaInstances.get(metaId("m")) ?? {};
  assert.match(placementError ?? "", /Cannot place .*node-a has 1 B free/);
});

Deno.test("CreateMetaInstance of a model that nobody could be asked about is kept, with the reason", () => {
  const unknown: Command = {
    type: "CreateMetaInstance",
    ...c,
    metaInstance: specOf("m"),
    instanceId: instanceId("i"),
  };
  const { events } = on(STATE, unknown);
  assert.deepEqual(events, [metaCreated(metaOf("m")), {
    type: "MetaInstancePlacementFailed",
    metaInstanceId: "m",
    reason: "Failed to load model card: nobody could be asked yet",
  }]);
});

Deno.test("CreateMetaInstance believes the cluster's card before the asker's", () => {
  const known = fold(
    [{ type: "CustomModelCardAdded", modelCard: cardOf({ license: "ours" }) }],
    STATE,
  );
  const [event] = on(known, creating()).events;
  assert.ok(event?.type === "MetaInstanceCreated");
  assert.equal(event.metaInstance.modelCard?.license, "ours");
});

Deno.test("CreateMetaInstance given twice is content; another wish of that id is a conflict", () => {
  const state = fold(on(STATE, creating({ minNodes: 1 })).events, STATE);
  assert.deepEqual(on(state, creating()), { events: [], metaInstanceId: "m" });
  rejects(() => on(state, creating({ maxRetries: 7 })), "conflict", /with another wish/);
});

Deno.test("CreateMetaInstance is rejected when its instance's id is taken, or it contradicts itself", () => {
  const taken = fold([created(instanceOf("i"))], STATE);
  rejects(() => on(taken, creating()), "conflict", /an instance of that id exists/);
  const contradicting = creating({ nodeIds: [A], excludedNodeIds: [A] });
  rejects(() => on(STATE, contradicting), "invalid_request", /both wanted and excluded/);
});

Deno.test("an eager placement sees the other instances, and no other wish", () => {
  const first = on(STATE, creating(), memoryOf(0.15 * GIB, [A])).events;
  const state = fold([metaCreated(metaOf("unplaced", { modelCard: cardOf() })), ...first], STATE);
  const second: Command = {
    type: "CreateMetaInstance",
    ...c,
    metaInstance: specOf("n"),
    instanceId: instanceId("j"),
    modelCard: cardOf(),
  };
  const { events } = on(state, second, memoryOf(0.15 * GIB, [A]));
  assert.deepEqual(typesOf(events), ["MetaInstanceCreated", "MetaInstancePlacementFailed"]);
});

Deno.test("api §5: DeleteMetaInstance ends its instances in the same decision, and no others", () => {
  const state = fold([
    metaCreated(metaOf("m")),
    created(boundTo("m", instanceOf("i"))),
    created(instanceOf("other")),
    created(boundTo("m", instanceOf("j"))),
    taskCreated(taskOf("t", "i")),
    taskCreated(taskOf("done", "i", { taskStatus: "Complete" })),
    taskCreated(taskOf("u", "other")),
  ], STATE);
  const remove: Command = { type: "DeleteMetaInstance", ...c, metaInstanceId: metaId("m") };
  assert.deepEqual(on(state, remove), {
    events: [
      { type: "MetaInstanceDeleted", metaInstanceId: "m" },
      { type: "TaskStatusUpdated", taskId: "t", taskStatus: "Cancelled" },
      { type: "InstanceDeleted", instanceId: "i" },
      { type: "InstanceDeleted", instanceId: "j" },
    ],
    metaInstanceId: "m",
  });
});

const retry: Command = { type: "RetryMetaInstance", ...c, metaInstanceId: metaId("m") };

Deno.test("RetryMetaInstance arms a parked wish, ends the wait of a retrying one, else nothing", () => {
  const phases = ["parked", "retrying", "placing", "starting", "ready"] as const;
  const armed = phases.filter((phase) => {
    const state = fold([metaCreated(metaOf("m", { phase }))]);
    const { events } = on(state, retry);
    return typesOf(events).includes("MetaInstanceRearmed");
  });
  assert.deepEqual(armed, ["parked", "retrying"]);
});

Deno.test("a wish that is not there is not found, and those that are are named", () => {
  const remove: Command = { type: "DeleteMetaInstance", ...c, metaInstanceId: metaId("x") };
  rejects(() => on(STATE, remove), "not_found", /"x" not found/);
  rejects(() => on(STATE, retry), "not_found", /"m" not found/);
  const state = fold([metaCreated(metaOf("there"))]);
  assert.throws(() => on(state, retry), { hint: "meta-instances: there" });
});
