import assert from "node:assert/strict";
import type { Event } from "../../../core/events.ts";
import type { ModelId } from "../../../core/ids.ts";
import type { MetaInstance } from "../../../core/meta_instance.ts";
import {
  type CardLookup,
  type MetaInstancesContext,
  pinnedRequest,
  unsatisfiedMetas,
} from "../../../core/meta_instance_placement.ts";
import { reconcile } from "../../../core/reconcile.ts";
import { reconcileMetaInstances, satisfies } from "../../../core/reconcile_meta_instances.ts";
import type { State } from "../../../core/state.ts";
import { GIB, MIB } from "../../../core/units.ts";
import {
  A,
  B,
  C,
  cardOf,
  created,
  fold,
  instanceId,
  instanceOf,
  memoryOf,
  MODEL,
  nodeStarted,
  reconcileContext,
  reported,
  runnerId,
  taskCreated,
  taskOf,
  telemetryOf,
} from "../../support/fixtures.ts";
import { boundTo, createdFor, edge, metaId, metaOf, wished } from "../../support/meta_instances.ts";

const NODES = [A, B, C].map((nodeId) => nodeStarted(nodeId));
const OTHER = "other/model" as ModelId;

/** Three nodes after these events. */
const after = (...events: Event[]): State => fold([...NODES, ...events]);

/** Room for anything on every node. */
function roomy(fields: Partial<MetaInstancesContext> = {}): MetaInstancesContext {
  const telemetry = telemetryOf(memoryOf(16 * GIB, [A, B, C]));
  return { ...reconcileContext(), telemetry, ...fields };
}

const full = roomy({ telemetry: telemetryOf(memoryOf(10 * MIB, [A, B, C])) });

const looks = (lookup: CardLookup) => roomy({ cards: new Map([[MODEL, lookup]]) });
const UNKNOWN = { modelCard: undefined };

/** A wish as the state has it. */
const wishOf = (state: State, id = "m"): MetaInstance | undefined =>
  state.metaInstances.get(metaId(id));

/** Applies decisions until there is none. */
function settle(start: State, context: MetaInstancesContext): State {
  let state = start;
  for (;;) {
    const events = reconcileMetaInstances(state, context);
    if (events.length === 0) return state;
    state = fold(events, state);
  }
}

const ids = (metas: readonly MetaInstance[]) => metas.map(({ metaInstanceId }) => metaInstanceId);

Deno.test("S1: unsatisfied is a wish to which nothing is bound, whatever else there is", () => {
  assert.deepEqual(unsatisfiedMetas(after()), []);
  assert.deepEqual(unsatisfiedMetas(after(wished(metaOf("m")), createdFor("m", "i"))), []);
  const other = instanceOf("i", [A], { card: cardOf({ modelId: OTHER }) });
  const alike = after(wished(metaOf("m")), created(other), created(instanceOf("j")));
  assert.deepEqual(ids(unsatisfiedMetas(alike)), ["m"]);
  const mix = after(wished(metaOf("m")), wished(metaOf("n")), createdFor("m", "i"));
  assert.deepEqual(ids(unsatisfiedMetas(mix)), ["n"]);
});

Deno.test("S2, changed by suspicion: without a node unsatisfied, without an edge satisfied", () => {
  const bound = after(wished(metaOf("m")), edge(A, B, "10.0.0.2"), createdFor("m", "i", [A, B]));
  assert.deepEqual(unsatisfiedMetas(bound), []);
  const cut = { source: A, sink: B } as const;
  const sinkMultiaddr = "/ip4/10.0.0.2/tcp/52414";
  const suspect = fold([{
    type: "TopologyEdgeDeleted",
    connection: { ...cut, edge: { type: "SocketConnection", sinkMultiaddr } },
  }], bound);
  assert.equal(suspect.connections.size, 0);
  assert.deepEqual(unsatisfiedMetas(suspect), []);
  const left = fold([{ type: "NodeTimedOut", nodeId: B }], bound);
  const lost = reconcile(left, reconcileContext());
  assert.deepEqual(ids(unsatisfiedMetas(fold(lost, left))), ["m"]);
});

Deno.test("S3: of two wishes for one model with one instance only the other is unsatisfied", () => {
  const state = after(wished(metaOf("m")), wished(metaOf("n")), createdFor("n", "i"));
  assert.deepEqual(ids(unsatisfiedMetas(state)), ["m"]);
  const settled = settle(state, roomy());
  assert.deepEqual(
    [...settled.instances.values()].map(({ metaInstanceId }) => metaInstanceId),
    ["n", "m"],
  );
});

const failed = (reason: string, id = "m") => ({
  type: "MetaInstancePlacementFailed",
  metaInstanceId: metaId(id),
  reason,
});

Deno.test("S4: a card that cannot be loaded is told once, for each wish", () => {
  const context = looks({ ok: false, reason: "the hub says 503" });
  const text = "Failed to load model card: the hub says 503";
  const two = after(wished(metaOf("m", UNKNOWN)), wished(metaOf("n", UNKNOWN)));
  const events = reconcileMetaInstances(two, context);
  assert.deepEqual(events, [failed(text), failed(text, "n")]);
  assert.deepEqual(reconcileMetaInstances(fold(events, two), context), []);
});

Deno.test("one that cannot be placed does not stop the others, in the same pass", () => {
  const state = after(
    wished(metaOf("nowhere", { modelCard: cardOf({ storageSize: { inBytes: 99 * GIB } }) })),
    wished(metaOf("m")),
  );
  const events = reconcileMetaInstances(state, roomy());
  assert.deepEqual(events.map(({ type }) => type), [
    "MetaInstancePlacementFailed",
    "InstanceCreated",
  ]);
});

Deno.test("S5: pinned nodes that are away are left out, and asked for in no other way", () => {
  const D = nodeStarted("node-d" as typeof A);
  const meta = metaOf("m", { nodeIds: [A, B, C, "node-d"], minNodes: 4, exact: true });
  const all = fold([...NODES, D, wished(meta)]);
  assert.deepEqual(pinnedRequest(all, meta), { ok: true, request: meta });
  const pinned = pinnedRequest(after(wished(meta)), meta);
  assert.ok(pinned.ok);
  const { nodeIds, minNodes, exact } = pinned.request;
  assert.deepEqual({ nodeIds, minNodes, exact }, { nodeIds: [A, B, C], minNodes: 3, exact: true });
  const ways = [[A, B], [B, C], [C, A]].flatMap(([a = A, b = B], at) => [
    edge(a, b, `10.0.${at}.1`),
    edge(b, a, `10.0.${at}.2`),
  ]);
  const three = settle(after(...ways, wished(meta)), roomy());
  const [placed] = three.instances.values();
  assert.deepEqual(Object.keys(placed?.shardAssignments.nodeToRunner ?? {}).toSorted(), [A, B, C]);
  assert.equal(wishOf(three)?.placementError, undefined);
  const one = metaOf("m", { nodeIds: [A, "node-d"], minNodes: 2 });
  const settled = settle(after(wished(one)), roomy());
  const [instance] = settled.instances.values();
  assert.deepEqual(Object.keys(instance?.shardAssignments.nodeToRunner ?? {}), [A]);
  assert.equal(wishOf(settled)?.placementError, undefined);
});

Deno.test("when all pinned nodes are away the pin falls, and no more nodes are asked for than there are", () => {
  const meta = metaOf("m", { nodeIds: ["node-x", "node-y"], minNodes: 9, exact: true });
  const at = (...nodes: Event[]) => {
    const pinned = pinnedRequest(fold(nodes), meta);
    assert.ok(pinned.ok);
    return pinned.request;
  };
  assert.equal(at(...NODES).minNodes, 3);
  assert.equal(at(...NODES).nodeIds, undefined);
  assert.equal(at(...NODES).exact, undefined);
  assert.equal(at().minNodes, 1);
});

Deno.test("a strict pin waits for its nodes and says for which", () => {
  const meta = metaOf("m", { nodeIds: [A, "node-x"], pin: "strict" });
  const state = after(wished(meta));
  const events = reconcileMetaInstances(state, roomy());
  const found = "pinned nodes node-x are away";
  const reason = `Cannot place "${MODEL}": ${found}, all of them needed`;
  assert.deepEqual(events, [failed(reason)]);
  const waiting = fold(events, state);
  assert.deepEqual(reconcileMetaInstances(waiting, roomy()), []);
  const one = metaOf("m", { nodeIds: [B], pin: "strict" });
  const [instance] = settle(after(wished(one)), roomy()).instances.values();
  assert.deepEqual(Object.keys(instance?.shardAssignments.nodeToRunner ?? {}), [B]);
});

Deno.test("the card comes from the wish, else from the cluster, else from who was asked", () => {
  const looked = { ok: true, modelCard: cardOf({ family: "looked up" }) } as const;
  const custom = cardOf({ family: "custom" });
  const resolve = (...events: Event[]) =>
    reconcileMetaInstances(after(...events), looks(looked)).map((event) =>
      event.type === "MetaInstanceCardResolved" ? event.modelCard.family : event.type
    );
  const unknown = wished(metaOf("m", UNKNOWN));
  assert.deepEqual(resolve(wished(metaOf("m"))), ["InstanceCreated"]);
  assert.deepEqual(resolve(unknown), ["looked up", "InstanceCreated"]);
  const added: Event = { type: "CustomModelCardAdded", modelCard: custom };
  assert.deepEqual(resolve(added, unknown), ["custom", "InstanceCreated"]);
  const nobody = reconcileMetaInstances(after(unknown), roomy());
  assert.deepEqual(nobody, [], "nobody knows yet");
});

Deno.test("wishes are placed one beside the other: no byte is promised twice", () => {
  const context = roomy({ telemetry: telemetryOf(memoryOf(150 * MIB, [A, B, C])) });
  const wishes = ["m", "n", "o", "p"].map((id) => wished(metaOf(id)));
  const state = settle(after(...wishes), context);
  const nodes = [...state.instances.values()]
    .flatMap(({ shardAssignments }) => Object.keys(shardAssignments.nodeToRunner));
  assert.deepEqual(nodes.sort(), [A, B, C]);
  assert.deepEqual([...state.instances.keys()], ["fresh", "fresh-2", "fresh-3"]);
  assert.ok(wishOf(state, "p")?.placementError?.startsWith("Cannot place"));
  assert.equal(wishOf(state, "m")?.phase, "starting");
});

Deno.test("a wish that has no place says why, and says no more when only the free memory changes", () => {
  const state = settle(after(wished(metaOf("m"))), full);
  const error = wishOf(state)?.placementError ?? "";
  assert.match(error, /10\.0 MiB free/);
  const little = roomy({ telemetry: telemetryOf(memoryOf(20 * MIB, [A, B, C])) });
  assert.deepEqual(reconcileMetaInstances(state, little), []);
  const noReport = roomy({ telemetry: telemetryOf(new Map()) });
  const [event] = reconcileMetaInstances(state, noReport);
  assert.ok(event?.type === "MetaInstancePlacementFailed");
  assert.match(event.reason, /has not reported its memory/);
  const settled = settle(state, roomy());
  assert.equal(wishOf(settled)?.placementError, undefined);
});

Deno.test("a wish whose turn it is not is left alone", () => {
  const state = after(wished(metaOf("m")), wished(metaOf("n")));
  const settled = settle(state, roomy({ due: new Set([metaId("n")]) }));
  const [instance] = settled.instances.values();
  assert.equal(instance?.metaInstanceId, "n");
  assert.equal(settled.instances.size, 1);
});

Deno.test("a wish is ready once all ranks of its instance serve", () => {
  const state = after(
    wished(metaOf("m")),
    createdFor("m", "i", [A, B]),
    reported("i:0", "RunnerReady"),
  );
  assert.deepEqual(reconcileMetaInstances(state, roomy()), []);
  const serving = fold([reported("i:1", "RunnerRunning")], state);
  const ready: Event = { type: "MetaInstanceReady", metaInstanceId: metaId("m") };
  assert.deepEqual(reconcileMetaInstances(serving, roomy()), [ready]);
  assert.deepEqual(reconcileMetaInstances(fold([ready], serving), roomy()), []);
});

Deno.test("a parked wish is placed only after the nodes or their ways have changed", () => {
  const parked: Event = {
    type: "MetaInstanceParked",
    metaInstanceId: metaId("m"),
    reason: "node-a: OOM",
  };
  const state = after(wished(metaOf("m", { consecutiveFailures: 4 })), parked);
  assert.deepEqual(reconcileMetaInstances(state, roomy()), []);
  const changed = fold([edge(A, B, "10.0.0.2")], state);
  const events = reconcileMetaInstances(changed, roomy());
  assert.deepEqual(events, [{ type: "MetaInstanceRearmed", metaInstanceId: "m" }]);
  const settled = settle(changed, roomy());
  assert.equal(settled.instances.size, 1);
  assert.equal(wishOf(settled)?.consecutiveFailures, 0);
  assert.equal(wishOf(settled)?.lastFailureError, "node-a: OOM", "kept, to be shown");
});

const deletedInstance = (id: string): Event => ({
  type: "InstanceDeleted",
  instanceId: instanceId(id),
});

Deno.test("an instance whose wish is gone goes too, with what it works on", () => {
  const state = after(
    createdFor("gone", "i"),
    created(instanceOf("mine")),
    taskCreated(taskOf("t", "i")),
  );
  assert.deepEqual(reconcileMetaInstances(state, roomy()), [
    { type: "TaskStatusUpdated", taskId: "t", taskStatus: "Cancelled" },
    deletedInstance("i"),
  ]);
});

Deno.test("of several instances of a wish that which serves stays, else the wished one, else the oldest", () => {
  const surplus = (fields: Partial<MetaInstance>, ...events: Event[]) =>
    reconcileMetaInstances(after(wished(metaOf("m", fields)), ...events), roomy());
  const three = [
    createdFor("m", "a"),
    createdFor("m", "b", [B, C]),
    createdFor("m", "c", [B]),
  ];
  assert.deepEqual(surplus({}, ...three), [deletedInstance("b"), deletedInstance("c")]);
  const pinned = surplus({ nodeIds: [B, C] }, ...three);
  assert.deepEqual(pinned, [deletedInstance("a"), deletedInstance("c")]);
  const served = surplus({ nodeIds: [B, C] }, ...three, reported("c:0", "RunnerReady"));
  assert.deepEqual(served, [deletedInstance("b"), deletedInstance("a")]);
});

Deno.test("C1: an instance satisfies by its model, its size and the nodes that were pinned", () => {
  const pair = instanceOf("i", [A, B]);
  const three = instanceOf("i", [A, B, C]);
  assert.equal(satisfies(metaOf("m", { modelId: OTHER }), pair), false);
  assert.equal(satisfies(metaOf("m", { nodeIds: [A, C] }), pair), false);
  assert.equal(satisfies(metaOf("m", { minNodes: 3 }), pair), false);
  assert.equal(satisfies(metaOf("m", { nodeIds: [A, C], minNodes: 2 }), three), true);
});

Deno.test("api §5: two wishes for one model are both listed; an unbound instance satisfies neither", () => {
  const state = after(wished(metaOf("m")), wished(metaOf("n")), created(instanceOf("i")));
  assert.deepEqual(ids(unsatisfiedMetas(state)), ["m", "n"]);
});

Deno.test("api §5: an instance for a wish that failed twice: count 2 (D14), error gone, last failure kept", () => {
  const meta = metaOf("m", {
    consecutiveFailures: 2,
    placementError: "no room",
    lastFailureError: "node-a: OOM",
  });
  const placed = wishOf(settle(after(wished(meta)), roomy()));
  assert.equal(placed?.consecutiveFailures, 2);
  assert.equal(placed?.placementError, undefined);
  assert.equal(placed?.lastFailureError, "node-a: OOM");
  assert.equal(placed?.instancesCreated, 1);
});

Deno.test("the instance of a wish carries its id, and ranks that derive from its own", () => {
  const state = settle(after(wished(metaOf("m"))), roomy({ freshId: instanceId("new") }));
  const placed = state.instances.get(instanceId("new"));
  assert.equal(placed?.metaInstanceId, "m");
  assert.deepEqual(Object.values(placed?.shardAssignments.nodeToRunner ?? {}), [runnerId("new:0")]);
  assert.deepEqual(boundTo("m", instanceOf("new")).metaInstanceId, placed?.metaInstanceId);
});
