import assert from "node:assert/strict";
import type { Event } from "../../../core/events.ts";
import { NO_TRIES, PLACEMENT_RETRY_MS } from "../../../core/placement_turns.ts";
import {
  DECISIONS_MAX,
  reconcile,
  reconcileAll,
  type ReconcileContext,
} from "../../../core/reconcile.ts";
import { NODE_TIMEOUT_MS } from "../../../core/reconcile_nodes.ts";
import type { State } from "../../../core/state.ts";
import { GIB, MIB } from "../../../core/units.ts";
import {
  A,
  B,
  cardOf,
  fold,
  instanceId,
  memoryOf,
  nodeStarted,
  reconcileContext,
  reported,
  telemetryOf,
} from "../../support/fixtures.ts";
import { createdFor, metaId, metaOf, wished } from "../../support/meta_instances.ts";

const UPTIME = 50_000;

/** Node B has been silent for too long, and both have room. */
function withoutB(fields: Partial<ReconcileContext> = {}): ReconcileContext {
  const lastSeen = new Map([[A, UPTIME], [B, UPTIME - NODE_TIMEOUT_MS]]);
  const telemetry = { ...telemetryOf(memoryOf(GIB, [A, B])), lastSeen };
  return reconcileContext({ telemetry, uptime: UPTIME, now: 1_000_000, ...fields });
}

/** Commits decisions to a state that others may look at. */
function committing(start: State) {
  const decisions: (readonly Event[])[] = [];
  let state = start;
  const commit = (events: readonly Event[]) => {
    decisions.push(events);
    return state = fold(events, state);
  };
  return { commit, decisions, now: () => state };
}

const types = (decisions: readonly (readonly Event[])[]) =>
  decisions.map((events) => events.map(({ type }) => type));

Deno.test("a lost node leaves first, then the wish's instance, then the wish is placed anew", () => {
  const state = fold([
    nodeStarted(A),
    nodeStarted(B),
    wished(metaOf("m")),
    createdFor("m", "i", [B]),
    reported("i:0", "RunnerReady"),
    { type: "MetaInstanceReady", metaInstanceId: metaId("m") },
  ]);
  const { commit, decisions, now } = committing(state);
  reconcileAll(state, { ...withoutB(), tries: NO_TRIES }, commit);
  assert.deepEqual(types(decisions), [
    ["RunnerStatusUpdated", "NodeTimedOut"],
    ["InstanceDeleted"],
    ["InstanceCreated"],
  ]);
  const placed = now().instances.get(instanceId("fresh"));
  assert.deepEqual(Object.keys(placed?.shardAssignments.nodeToRunner ?? {}), [A]);
  assert.equal(now().metaInstances.get(metaId("m"))?.lastFailureError, "Network connection lost");
});

Deno.test("failures are dealt with before nodes, nodes before wishes", () => {
  const state = fold([
    nodeStarted(A),
    nodeStarted(B),
    wished(metaOf("m")),
    wished(metaOf("n")),
    createdFor("m", "i", [A]),
    reported("i:0", "RunnerFailed"),
  ]);
  const first = reconcile(state, withoutB());
  const second = reconcile(fold(first, state), withoutB());
  const third = reconcile(fold([...first, ...second], state), withoutB());
  assert.deepEqual(types([first, second, third]), [
    ["InstanceRetrying"],
    ["NodeTimedOut"],
    ["InstanceCreated"],
  ]);
});

Deno.test("wishes without a place are tried once at one time, those after them all the same", () => {
  const big = cardOf({ storageSize: { inBytes: 99 * GIB } });
  const nowhere = Array.from(
    { length: 20 },
    (_, n) => wished(metaOf(`big-${n}`, { modelCard: big })),
  );
  const state = fold([nodeStarted(A), ...nowhere, wished(metaOf("m"))]);
  const context = { ...withoutB(), tries: NO_TRIES };
  const { commit, decisions } = committing(state);
  let tries = reconcileAll(state, context, commit);
  assert.equal(tries.tried.size, 8);
  assert.deepEqual(decisions.map(({ length }) => length), [8]);
  const again = committing(fold(decisions.flat(), state));
  assert.deepEqual(reconcileAll(again.now(), { ...context, tries }, again.commit), tries);
  assert.deepEqual(again.decisions, []);
  for (let second = 1; second <= 2; second++) {
    const uptime = UPTIME + second * PLACEMENT_RETRY_MS;
    const lastSeen = new Map([[A, uptime]]);
    const telemetry = { ...context.telemetry, lastSeen };
    tries = reconcileAll(again.now(), { ...context, telemetry, uptime, tries }, again.commit);
  }
  const [instance] = again.now().instances.values();
  assert.equal(instance?.metaInstanceId, "m", "its turn came in the third second");
});

Deno.test("a look ends after a limit of decisions, even where they change nothing", () => {
  const state = fold([nodeStarted(A), wished(metaOf("m"))]);
  let decisions = 0;
  reconcileAll(state, { ...withoutB(), tries: NO_TRIES }, () => {
    decisions++;
    return fold([wished(metaOf(`m${decisions}`))], state);
  });
  assert.equal(decisions, DECISIONS_MAX);
});

Deno.test("a wish for a model that fits nowhere is content to have said so", () => {
  const state = fold([nodeStarted(A), wished(metaOf("m"))]);
  const telemetry = telemetryOf(memoryOf(MIB));
  const first = reconcile(state, reconcileContext({ telemetry }));
  assert.deepEqual(types([first]), [["MetaInstancePlacementFailed"]]);
  assert.deepEqual(reconcile(fold(first, state), reconcileContext({ telemetry })), []);
});
