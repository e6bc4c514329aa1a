/** From any state, whatever led to it, the reconcilers come to rest and make sense on the way. */
import assert from "node:assert/strict";
import fc from "fast-check";
import type { Event } from "../../../core/events.ts";
import type { MetaInstanceId, NodeId } from "../../../core/ids.ts";
import type { Instance } from "../../../core/instance.ts";
import { nodesOf } from "../../../core/instance_health.ts";
import { NO_TRIES } from "../../../core/placement_turns.ts";
import { reconcile, reconcileAll, type ReconcileContext } from "../../../core/reconcile.ts";
import { NODE_TIMEOUT_MS } from "../../../core/reconcile_nodes.ts";
import { EMPTY_STATE, type State } from "../../../core/state.ts";
import { isInFlight, type TaskStatus } from "../../../core/task.ts";
import { NO_TELEMETRY, type NodeMemory } from "../../../core/telemetry.ts";
import { MIB } from "../../../core/units.ts";
import {
  A,
  B,
  C,
  created,
  fold,
  instanceId,
  instanceOf,
  MODEL,
  nodeStarted,
  reconcileContext,
  reported,
  taskCreated,
  taskOf,
} from "../../support/fixtures.ts";
import { boundTo, edge, metaId, metaOf, wished } from "../../support/meta_instances.ts";

const NOW = 1_000_000;
const UPTIME = 500_000;

const node = fc.constantFrom(A, B, C);
const id = fc.constantFrom("i", "j", "k", "l");
const wish = fc.constantFrom("m", "n", "o");
const nodeSet = fc.constantFrom<readonly NodeId[]>([A], [B], [C], [A, B], [B, C], [A, B, C]);
const date = fc.constantFrom(0, NOW - 90_000, NOW - 1_000, NOW, NOW + 90_000);

const anyMeta = fc.record({
  id: wish,
  phase: fc.constantFrom("placing", "starting", "ready", "retrying", "parked"),
  consecutiveFailures: fc.nat(4),
  minNodes: fc.integer({ min: 1, max: 3 }),
  pin: fc.constantFrom("strict", "prefer"),
  nodeIds: fc.option(nodeSet.map((ids) => [...ids]), { nil: undefined }),
  parkedAtTopologyIdx: fc.constantFrom(undefined, 1, 5),
  placementError: fc.constantFrom(undefined, "no room"),
  isKnown: fc.boolean(),
}).map(({ id, isKnown, ...fields }): Event => {
  const card = isKnown ? {} : { modelCard: undefined };
  return wished(metaOf(id, { ...fields, ...card }));
});

const anyInstance = fc.record({
  id,
  nodeIds: nodeSet,
  meta: fc.option(fc.constantFrom("m", "n", "o", "gone"), { nil: undefined }),
  ip: fc.constantFrom(undefined, "10.0.0.1", "10.0.0.2"),
}).map(({ id, nodeIds, meta, ip }): Event => {
  const hosts = nodeIds.map(() => ({ ip, port: 30_000 }));
  const hostsByNode = Object.fromEntries(ip ? nodeIds.map((nodeId) => [nodeId, hosts]) : []);
  const instance = { ...instanceOf(id, nodeIds), hostsByNode } as Instance;
  return created(meta === undefined ? instance : boundTo(meta, instance));
});

const anyRunner = fc.record({
  id,
  rank: fc.nat(2),
  type: fc.constantFrom(
    "RunnerIdle",
    "RunnerLoading",
    "RunnerReady",
    "RunnerReady",
    "RunnerRunning",
    "RunnerFailed",
    "RunnerFailed",
    "RunnerShutdown",
  ),
  reason: fc.constantFrom("", "OOM"),
  at: date,
});

const anyTask = fc.record({
  id: fc.constantFrom("t", "u", "v"),
  instance: id,
  apiNodeId: node,
  taskStatus: fc.constantFrom<TaskStatus>("Pending", "Running", "Complete", "Failed"),
});

const anyEvent: fc.Arbitrary<Event> = fc.oneof(
  { weight: 2, arbitrary: node.map((nodeId) => nodeStarted(nodeId)) },
  node.map((nodeId): Event => ({ type: "NodeTimedOut", nodeId })),
  fc.tuple(node, node).map(([a, b]) => edge(a, b, "10.0.0.1")),
  { weight: 3, arbitrary: anyMeta },
  wish.map((id): Event => ({ type: "MetaInstanceDeleted", metaInstanceId: metaId(id) })),
  wish.map((id): Event => ({ type: "MetaInstanceParked", metaInstanceId: metaId(id), reason: "" })),
  { weight: 4, arbitrary: anyInstance },
  id.map((id): Event => ({
    type: "InstanceRetrying",
    instanceId: instanceId(id),
    failureError: "OOM",
    notBefore: NOW + 500,
  })),
  // Only runners of present instances report: the admission filter sees to that.
  {
    weight: 6,
    arbitrary: anyRunner.map(({ id, rank, type, reason, at }) =>
      reported(`${id}:${rank}`, type, { reason, at })
    ),
  },
  {
    weight: 2,
    arbitrary: anyTask.map(({ id, instance, ...fields }) =>
      taskCreated(taskOf(id, instance, fields))
    ),
  },
);

/** Any state, as long as its events are: only reports of runners that belong to somebody count. */
const anyState = fc.array(anyEvent, { minLength: 5, maxLength: 60, size: "max" }).map((events) =>
  events.reduce((state, event) => {
    const owned = [...state.instances.values()]
      .some(({ shardAssignments }) =>
        event.type === "RunnerStatusUpdated" && event.runnerId in shardAssignments.runnerToShard
      );
    return event.type === "RunnerStatusUpdated" && !owned ? state : fold([event], state);
  }, EMPTY_STATE)
);

const anyMemory = fc.constantFrom(10, 150, 450).map((mib): NodeMemory => ({
  ramTotalBytes: 1_000 * MIB,
  ramAvailableBytes: mib * MIB,
}));
const anySilence = fc.constantFrom(0, 10_000, NODE_TIMEOUT_MS, undefined);

const anyContext: fc.Arbitrary<ReconcileContext> = fc.record({
  memory: fc.array(anyMemory, { minLength: 3, maxLength: 3 }),
  silence: fc.array(anySilence, { minLength: 3, maxLength: 3 }),
  lookup: fc.constantFrom(
    undefined,
    { ok: false, reason: "offline" } as const,
    { ok: true, modelCard: instanceCard() } as const,
  ),
}).map(({ memory, silence, lookup }) => {
  const nodes = [A, B, C];
  const seen = nodes.flatMap((nodeId, n) => {
    const ms = silence[n];
    return ms === undefined ? [] : [[nodeId, UPTIME - ms] as const];
  });
  return reconcileContext({
    now: NOW,
    uptime: UPTIME,
    telemetry: {
      ...NO_TELEMETRY,
      memory: new Map(nodes.map((nodeId, n) => [nodeId, memory[n] as NodeMemory])),
      lastSeen: new Map(seen),
    },
    cards: new Map(lookup ? [[MODEL, lookup]] : []),
  });
});

function instanceCard() {
  const { modelCard } = metaOf("m");
  assert.ok(modelCard);
  return modelCard;
}

/** Decisions that a state may take to come to rest. */
const decisionsMax = ({ nodes, instances }: State) => nodes.size + 2 * instances.size + 8;

/** How many instances each wish has. */
function boundCounts(state: State): ReadonlyMap<MetaInstanceId, number> {
  const counts = new Map<MetaInstanceId, number>();
  for (const { metaInstanceId } of state.instances.values()) {
    if (metaInstanceId) counts.set(metaInstanceId, (counts.get(metaInstanceId) ?? 0) + 1);
  }
  return counts;
}

/** The state without the place in the log, which every event changes. */
function content({ lastEventAppliedIdx: _, lineage: __, stamps: ___, ...rest }: State) {
  return rest;
}

/** Applies a decision, of which each event must change something. */
function commit(state: State, events: readonly Event[]): State {
  return events.reduce((before, event) => {
    const after = fold([event], before);
    assert.notDeepEqual(content(after), content(before), `${JSON.stringify(event)} is in vain`);
    for (const [id, count] of boundCounts(after)) {
      const had = boundCounts(before).get(id) ?? 0;
      assert.ok(count <= Math.max(1, had), `wish ${id} got a second instance`);
    }
    return after;
  }, state);
}

/** What must hold once the reconcilers are content. */
function checkAtRest(state: State, { telemetry: { lastSeen } }: ReconcileContext): void {
  const isHeard = (nodeId: NodeId) => (lastSeen.get(nodeId) ?? 0) > UPTIME - NODE_TIMEOUT_MS;
  for (const count of boundCounts(state).values()) assert.equal(count, 1);
  for (const instance of state.instances.values()) {
    const { metaInstanceId } = instance;
    if (metaInstanceId === undefined) continue;
    assert.ok(state.metaInstances.has(metaInstanceId), `wish ${metaInstanceId} is gone`);
    const lost = nodesOf(instance).filter((id) => !state.nodes.has(id) && !isHeard(id));
    assert.deepEqual(lost, [], `instance ${instance.instanceId} lacks a node`);
  }
}

Deno.test("from any state the reconcilers come to rest within a bound, and no event is in vain", () => {
  const reached = new Set<string>();
  fc.assert(
    fc.property(anyState, anyContext, (start, context) => {
      let state = start;
      for (let decisions = 0;; decisions++) {
        const events = reconcile(state, context);
        if (events.length === 0) break;
        assert.ok(decisions < decisionsMax(start), "no end in sight");
        for (const { type } of events) reached.add(type);
        state = commit(state, events);
      }
      checkAtRest(state, context);
    }),
    { seed: 7, numRuns: 1_000 },
  );
  // Sometimes everything happens that can: else the property would show little.
  assert.deepEqual([...reached].sort(), [
    "InstanceCreated",
    "InstanceDeleted",
    "InstanceRetriesReset",
    "InstanceRetrying",
    "MetaInstanceCardResolved",
    "MetaInstanceParked",
    "MetaInstancePlacementFailed",
    "MetaInstanceReady",
    "MetaInstanceRearmed",
    "NodeTimedOut",
    "RunnerStatusUpdated",
    "TaskDeleted",
    "TaskFailed",
    "TaskStatusUpdated",
  ]);
});

Deno.test("by turns they come to the same rest: what waits for its turn differs, nothing else", () => {
  fc.assert(
    fc.property(anyState, anyContext, (start, context) => {
      let state = start;
      reconcileAll(state, { ...context, tries: NO_TRIES }, (events) => {
        return state = commit(state, events);
      });
      checkAtRest(state, context);
      assert.deepEqual(reconcile(state, { ...context, due: new Set() }), []);
    }),
    { seed: 7, numRuns: 300 },
  );
});

Deno.test("no request in flight is left with an instance that is retried or gone", () => {
  fc.assert(
    fc.property(anyState, anyContext, (start, context) => {
      const orphans = new Set(
        [...start.tasks.values()].filter(({ instanceId }) => !start.instances.has(instanceId))
          .map(({ taskId }) => taskId),
      );
      let state = start;
      reconcileAll(state, { ...context, tries: NO_TRIES }, (events) => {
        state = commit(state, events);
        for (const event of events) {
          if (event.type !== "InstanceRetrying" && event.type !== "InstanceDeleted") continue;
          const left = [...state.tasks.values()].filter((task) =>
            task.instanceId === event.instanceId && isInFlight(task) && !orphans.has(task.taskId)
          );
          assert.deepEqual(left, []);
        }
        return state;
      });
    }),
    { seed: 9, numRuns: 300 },
  );
});
