import assert from "node:assert/strict";
import fc from "fast-check";
import { apply } from "../../core/apply.ts";
import { AppError } from "../../core/errors.ts";
import type { Event } from "../../core/events.ts";
import { type NodeId, NodeId as NodeIdSchema } from "../../core/ids.ts";
import type { IntentKey } from "../../core/intent_key.ts";
import { type Epoch, LINEAGE_SEGMENTS_MAX } from "../../core/lineage.ts";
import { type Branch, branchOf, decideMerge } from "../../core/merge.ts";
import { EMPTY_STATE, type State } from "../../core/state.ts";
import {
  A,
  B,
  C,
  cardOf,
  commandId,
  created,
  downloaded,
  instanceId,
  instanceOf,
  nodeStarted,
  reported,
  taskCreated,
  taskId,
  taskOf,
} from "../support/fixtures.ts";
import {
  boundTo,
  linkCreated,
  linkId,
  metaCreated,
  metaId,
  metaOf,
} from "../support/control_plane.ts";

/** A history that goes on under a master of its own. */
function reign(state: State, epoch: Epoch, ...events: readonly Event[]): State {
  return [{ type: "EpochStarted" } as const, ...events].reduce(
    (state, event) => apply(state, { idx: state.lastEventAppliedIdx + 1, epoch, event }),
    state,
  );
}

const epochOf = (clock: number, nodeId: NodeId = A): Epoch => ({ clock, nodeId });
const HIGH = 1_000;

function commandOf(branch: Branch): Parameters<typeof decideMerge>[1] {
  return { type: "MergeLineage", commandId: commandId("merge"), ...branch };
}

/** The winner once it has taken what the loser brings; it begins an epoch above the loser's. */
function merged(loser: State, winner: State, clock = HIGH): State {
  const reigning = reign(winner, epochOf(clock));
  const branch = branchOf(loser, reigning);
  if (!branch) return reigning;
  const { events } = decideMerge(reigning, commandOf(branch));
  assert.equal(events.length, 1, "as a whole");
  return goOn(reigning, ...events);
}

/** The history with more events of its present epoch. */
function goOn(state: State, ...events: readonly Event[]): State {
  const epoch = state.lineage.segments.at(-1)?.epoch;
  assert.ok(epoch);
  return events.reduce(
    (state, event) => apply(state, { idx: state.lastEventAppliedIdx + 1, epoch, event }),
    state,
  );
}

const card = (modelId: string, license = "") =>
  ({ type: "CustomModelCardAdded", modelCard: cardOf({ modelId, license }) }) as const;
const cardGone = (modelId: string) =>
  ({ type: "CustomModelCardDeleted", modelId: cardOf({ modelId }).modelId }) as const;
const metaGone = (id: string) =>
  ({ type: "MetaInstanceDeleted", metaInstanceId: metaId(id) }) as const;
const instanceGone = (id: string, failureError?: string) => ({
  type: "InstanceDeleted" as const,
  instanceId: instanceId(id),
  ...(failureError === undefined ? {} : { failureError }),
});
const linkGone = (id: string) => ({ type: "InstanceLinkDeleted", linkId: linkId(id) }) as const;
const keys = (state: State): string[] => [...state.stamps.keys()].toSorted();

/** What both sides have in common before they part. */
const COMMON = reign(
  EMPTY_STATE,
  epochOf(1),
  nodeStarted(A),
  nodeStarted(B),
  card("common"),
  metaCreated(metaOf("common")),
  created(instanceOf("common")),
  created(instanceOf("other")),
  linkCreated("common", ["common"], ["other"]),
);
const ALL = ["card:common", "instance:common", "instance:other", "link:common", "meta:common"];

Deno.test("a side that was asked for nothing has nothing to bring", () => {
  assert.equal(branchOf(COMMON, COMMON), undefined);
  assert.equal(branchOf(COMMON, reign(COMMON, epochOf(2), card("x"))), undefined);
  assert.equal(branchOf(EMPTY_STATE, COMMON), undefined);
});

Deno.test("a side that had more masters than it remembers still brings what it was asked for", () => {
  let loser = reign(COMMON, epochOf(3, B), card("early"), cardGone("common"));
  for (let clock = 4; clock < LINEAGE_SEGMENTS_MAX + 6; clock++) {
    loser = reign(loser, epochOf(clock, B));
  }
  loser = goOn(loser, card("late"));
  const winner = reign(COMMON, epochOf(2), card("theirs"));
  const both = merged(loser, winner, 2 * LINEAGE_SEGMENTS_MAX);
  assert.ok(keys(both).includes("card:early"), "of an epoch that is forgotten");
  assert.ok(keys(both).includes("card:late"));
  assert.ok(keys(both).includes("card:theirs"), "of an epoch that was never heard of");
  assert.equal(branchOf(loser, both), undefined, "it is brought once");
});

Deno.test("what one side was asked for comes along under its ids and stamps", () => {
  const loser = reign(
    COMMON,
    epochOf(2),
    card("new"),
    metaCreated(metaOf("new")),
    created(instanceOf("new")),
    linkCreated("new", ["new"], ["common"]),
  );
  const state = merged(loser, reign(COMMON, epochOf(3, B), card("here")));
  const news = ["card:new", "instance:new", "link:new", "meta:new"];
  assert.deepEqual(keys(state), [...ALL, "card:here", ...news].toSorted());
  for (const key of news) {
    assert.deepEqual(state.stamps.get(key as IntentKey), loser.stamps.get(key as IntentKey));
  }
  assert.deepEqual(state.metaInstances.get(metaId("new")), metaOf("new"));
});

Deno.test("what one side had deleted goes, with the work on it and what else hung on it", () => {
  const deletions = [linkGone("common"), instanceGone("common"), metaGone("common")];
  const loser = reign(COMMON, epochOf(2), ...deletions, cardGone("common"));
  const bound = boundTo("common", instanceOf("bound"));
  const winner = reign(
    COMMON,
    epochOf(3, B),
    downloaded(A, cardOf({ modelId: "common" }).modelId),
    taskCreated(taskOf("t", "common", { taskStatus: "Running" })),
    taskCreated(taskOf("done", "common", { taskStatus: "Complete" })),
    taskCreated(taskOf("else", "other", { taskStatus: "Running" })),
    created(bound),
  );
  const state = merged(loser, winner);
  assert.deepEqual(keys(state), ["instance:other"]);
  assert.equal(state.downloads.size, 0);
  const statuses = ["t", "done", "else"].map((id) => state.tasks.get(taskId(id))?.taskStatus);
  assert.deepEqual(statuses, ["Cancelled", "Complete", "Running"]);
});

Deno.test("what the winner has deleted does not come back", () => {
  const winner = reign(COMMON, epochOf(2), instanceGone("common"), metaGone("common"));
  const state = merged(reign(COMMON, epochOf(3, B), card("x")), winner);
  assert.deepEqual(keys(state), ["card:common", "card:x", "instance:other"]);
});

Deno.test("what came and went on one side is not resurrected by a third that saw it come", () => {
  const born = reign(COMMON, epochOf(2), card("brief"));
  const third = reign(born, epochOf(3, B));
  const winner = merged(reign(born, epochOf(4), cardGone("brief")), COMMON, 5);
  assert.deepEqual(keys(winner), ALL);
  assert.deepEqual(keys(merged(third, winner, 6)), ALL);
});

Deno.test("of two changes of one thing the winner's stays; a change on one side alone counts", () => {
  const license = (state: State) =>
    state.customModelCards.get(cardOf({ modelId: "common" }).modelId)?.license;
  const there = reign(COMMON, epochOf(2), card("common", "there"));
  assert.equal(license(merged(there, reign(COMMON, epochOf(3, B)))), "there");
  const here = reign(COMMON, epochOf(3, B), card("common", "here"));
  const both = merged(there, here);
  assert.equal(license(both), "here");
  assert.equal(license(merged(both, there, HIGH + 1)), "here", "also when it meets it again");
});

Deno.test("a change that was made while the other side looked stays", () => {
  const reigning = reign(COMMON, epochOf(HIGH));
  const loser = reign(COMMON, epochOf(2), card("common", "there"), metaGone("common"));
  const branch = branchOf(loser, reigning);
  assert.ok(branch);
  const later = goOn(reigning, card("common", "here"), metaCreated(metaOf("common")));
  const { events } = decideMerge(later, commandOf(branch));
  const state = goOn(later, ...events);
  assert.deepEqual(keys(state), ALL);
  assert.equal([...state.customModelCards.values()][0]?.license, "here");
});

Deno.test("what was merged and then deleted does not come back with the rest of its branch", () => {
  const early = reign(COMMON, epochOf(2), card("early"));
  const reigning = reign(COMMON, epochOf(HIGH));
  const first = branchOf(early, reigning);
  assert.ok(first);
  const once = goOn(reigning, ...decideMerge(reigning, commandOf(first)).events, cardGone("early"));
  const branch = branchOf(goOn(early, card("late")), once);
  assert.ok(branch);
  const { events } = decideMerge(once, commandOf(branch));
  assert.deepEqual(keys(goOn(once, ...events)), [...ALL, "card:late"].toSorted());
});

Deno.test("a branch that was put together before another was merged is refused, and brought again", () => {
  const maker = reign(COMMON, epochOf(2), card("made"));
  const deleter = reign(goOn(maker), epochOf(3, B), cardGone("made"));
  const reigning = reign(COMMON, epochOf(HIGH));
  // It cannot name the deletion of a thing that the winner has never heard of.
  const early = branchOf(deleter, reigning);
  const first = branchOf(maker, reigning);
  assert.ok(first && early);
  const once = goOn(reigning, ...decideMerge(reigning, commandOf(first)).events);
  assert.throws(() => decideMerge(once, commandOf(early)), { code: "conflict" });
  const again = branchOf(deleter, once);
  assert.ok(again);
  assert.deepEqual(keys(goOn(once, ...decideMerge(once, commandOf(again)).events)), ALL);
});

Deno.test("a wish is placed anew, and a parked one is armed by the new topology", () => {
  const loser = reign(
    COMMON,
    epochOf(2),
    metaCreated(metaOf("retrying", { phase: "retrying", nextAttemptAt: 5 })),
    metaCreated(metaOf("parked", { phase: "parked", parkedAtTopologyIdx: 3 })),
  );
  const { metaInstances } = merged(loser, COMMON);
  assert.deepEqual(metaInstances.get(metaId("retrying")), metaOf("retrying"));
  const parked = metaOf("parked", { phase: "parked", parkedAtTopologyIdx: -1 });
  assert.deepEqual(metaInstances.get(metaId("parked")), parked);
});

const serving = (id: string) => reported(`${id}:0`, "RunnerReady");
const bound = (id: string, meta = "common") => created(boundTo(meta, instanceOf(id)));
const instances = (state: State) =>
  [...state.instances.keys()].filter((id) => id !== "common" && id !== "other");

Deno.test("an instance of a wish comes along if it serves and none serves here", () => {
  const loser = reign(COMMON, epochOf(2), bound("there"), serving("there"));
  const idle = reign(COMMON, epochOf(2), bound("there"));
  const waiting = reign(COMMON, epochOf(3, B), bound("here"));
  assert.deepEqual(instances(merged(loser, waiting)), ["there"], "in place of one that does not");
  assert.deepEqual(instances(merged(idle, waiting)), ["here"]);
  assert.deepEqual(instances(merged(loser, goOn(waiting, serving("here")))), ["here"]);
  assert.deepEqual(instances(merged(loser, reign(COMMON, epochOf(3, B), metaGone("common")))), []);
  const { metaInstances } = merged(loser, COMMON);
  assert.deepEqual(metaInstances.get(metaId("common"))?.phase, "starting");
});

Deno.test("two instances of one wish do not both come along, one of a new wish does", () => {
  const loser = reign(
    COMMON,
    epochOf(2),
    metaCreated(metaOf("new")),
    ...["a", "b"].flatMap((id) => [bound(id), serving(id)]),
    bound("c", "new"),
    serving("c"),
  );
  assert.deepEqual(instances(merged(loser, COMMON)), ["a", "c"]);
});

Deno.test("an instance of a wish, and its link, that one side lost stay with the other", () => {
  const start = reign(COMMON, epochOf(2), bound("b"), linkCreated("b", ["b"], ["common"]));
  const loser = reign(start, epochOf(3), instanceGone("b", "Network connection lost"));
  const state = merged(loser, reign(start, epochOf(4, B), serving("b")));
  assert.deepEqual(instances(state), ["b"]);
  assert.deepEqual([...state.instanceLinks.keys()], ["common", "b"]);
});

Deno.test("a runner that another instance has keeps an instance out", () => {
  const thief = { ...instanceOf("common"), instanceId: instanceId("thief") };
  const state = merged(reign(COMMON, epochOf(2), created(thief)), COMMON);
  assert.deepEqual(instances(state), []);
});

Deno.test("a link comes along with the ends that are there", () => {
  const loser = reign(
    COMMON,
    epochOf(2),
    created(instanceOf("new")),
    linkCreated("new", ["new", "common"], ["other"]),
    linkCreated("lost", ["common"], ["new"]),
    linkCreated("common", ["new"], ["other"]),
  );
  const state = merged(loser, reign(COMMON, epochOf(3, B), instanceGone("common")));
  assert.deepEqual(
    [...state.instanceLinks.values()],
    [linkCreated("common", ["new"], ["other"]).link, linkCreated("new", ["new"], ["other"]).link],
    "one was replaced there, and gone here with its end",
  );
});

Deno.test("a thing without a stamp is nobody's to bring", () => {
  const loser = reign(COMMON, epochOf(2), card("new"));
  assert.deepEqual(branchOf({ ...loser, stamps: new Map() }, COMMON)?.modelCards, []);
});

Deno.test("a branch that cannot have happened is refused, and names what is wrong", () => {
  const state = reign(COMMON, epochOf(5));
  const branch = branchOf(reign(COMMON, epochOf(2), card("new")), state);
  assert.ok(branch);
  const [segment] = branch.segments;
  const [thing] = branch.modelCards;
  assert.ok(segment && thing);
  const stamp = { epoch: epochOf(9), idx: 0 };
  const cases: [Partial<Branch>, RegExp][] = [
    [
      { segments: Array(LINEAGE_SEGMENTS_MAX + 1).fill(segment) },
      /found 1025 segments, 1024 at most needed/,
    ],
    [{ segments: [{ ...segment, lastIdx: 0 }] }, /a segment from 8 to 0/],
    [{ segments: [{ ...segment, epoch: epochOf(5) }] }, /epoch 5, which is this master's own/],
    [{ modelCards: [{ ...thing, stamp }] }, /event 0 of epoch 9, one of its own needed/],
  ];
  for (const [fields, message] of cases) {
    assert.throws(() => decideMerge(state, commandOf({ ...branch, ...fields })), (thrown) => {
      assert.ok(thrown instanceof AppError);
      assert.equal(thrown.code, "invalid_request");
      assert.match(thrown.message, message);
      return true;
    });
  }
  const alone = decideMerge(EMPTY_STATE, commandOf(branch));
  assert.equal(alone.events.length, 1, "a master that has no event yet refuses none");
});

/** What users ask for, as a step of a history; `id` picks a thing. */
interface Step {
  readonly kind: "card" | "meta" | "instance" | "link";
  readonly id: number;
  readonly side: number;
}

const anyStep: fc.Arbitrary<Step> = fc.record({
  kind: fc.constantFrom("card" as const, "meta" as const, "instance" as const, "link" as const),
  id: fc.nat(2),
  side: fc.nat(2),
});

const NODES = [A, B, C, NodeIdSchema.parse("node-d")];

/** Creates a thing that is not there under a new id, deletes one that is. */
function toggled(state: State, { kind, id }: Step, fresh: string): Event[] {
  const live = [...state.stamps.keys()].filter((key) => key.startsWith(`${kind}:`));
  const name = live[id]?.slice(kind.length + 1);
  switch (kind) {
    case "card":
      return [name === undefined ? card(fresh) : cardGone(name)];
    case "meta":
      return [name === undefined ? metaCreated(metaOf(fresh)) : metaGone(name)];
    case "instance":
      return [name === undefined ? created(instanceOf(fresh)) : instanceGone(name)];
    case "link": {
      const [first, second] = [...state.instances.keys()];
      if (name !== undefined) return [linkGone(name)];
      return first && second ? [linkCreated(fresh, [first], [second])] : [];
    }
  }
}

const anySteps = fc.array(anyStep, { maxLength: 12 });

/** Runs steps as a reign, and notes what was created and what was deleted in it. */
function history(state: State, epoch: Epoch, steps: readonly Step[], seen: Seen): State {
  return steps.reduce((before, step, at) => {
    const after = goOn(before, ...toggled(before, step, `${epoch.nodeId}-${epoch.clock}-${at}`));
    for (const key of after.stamps.keys()) if (!before.stamps.has(key)) seen.created.add(key);
    for (const key of before.stamps.keys()) if (!after.stamps.has(key)) seen.deleted.add(key);
    return after;
  }, reign(state, epoch));
}

interface Seen {
  readonly created: Set<IntentKey>;
  readonly deleted: Set<IntentKey>;
}

/** What there is must be all that was created and not deleted, wherever that was. */
function assertExact(state: State, { created, deleted }: Seen): void {
  const wanted = [...created].filter((key) => !deleted.has(key)).toSorted();
  // A link also goes with an instance that the other side had deleted.
  const isLost = (key: string) => key.startsWith("link:") && !keys(state).includes(key);
  assert.deepEqual(keys(state), wanted.filter((key) => !isLost(key)));
  for (const link of state.instanceLinks.values()) {
    for (const id of [...link.prefillInstances, ...link.decodeInstances]) {
      assert.ok(state.instances.has(id), `link ${link.linkId} without its end ${id}`);
    }
  }
}

Deno.test("two histories that part anywhere merge either way: nothing is lost or comes back", () => {
  let merges = 0;
  fc.assert(fc.property(anySteps, anySteps, anySteps, (common, left, right) => {
    const seen: Seen = { created: new Set(), deleted: new Set() };
    const start = history(EMPTY_STATE, epochOf(1), common, seen);
    const a = history(start, epochOf(2, A), left, seen);
    const b = history(start, epochOf(3, B), right, seen);
    const [intoB, intoA] = [merged(a, b), merged(b, a)];
    assertExact(intoB, seen);
    assertExact(intoA, seen);
    assert.deepEqual(keys(intoA), keys(intoB));
    assert.equal(branchOf(a, intoB), undefined, "merging twice changes nothing");
    const again = branchOf(a, b);
    if (again) assert.deepEqual(decideMerge(intoB, commandOf(again)).events, []);
    merges += Number(keys(intoB).length > 0);
  }));
  assert.ok(merges > 50, "of empty histories this would say nothing");
});

Deno.test("any number of sides that meet in any order end alike", () => {
  const meetings = fc.array(fc.tuple(fc.nat(3), fc.nat(3), anySteps), { maxLength: 8 });
  fc.assert(fc.property(anySteps, meetings, (common, meetings) => {
    const seen: Seen = { created: new Set(), deleted: new Set() };
    let clock = 1;
    const start = history(EMPTY_STATE, epochOf(clock), common, seen);
    const sides = NODES.map((nodeId) => history(start, epochOf(++clock, nodeId), [], seen));
    const meet = (from: number, to: number) => {
      const both = merged(sides[from] as State, sides[to] as State, ++clock);
      // Who has brought its branch follows; the clusters part again afterwards.
      sides[to] = reign(both, epochOf(++clock, NODES[to]));
      sides[from] = reign(both, epochOf(++clock, NODES[from]));
    };
    for (const [from, to, steps] of meetings) {
      if (from !== to) meet(from, to);
      sides[to] = history(sides[to] as State, epochOf(++clock, NODES[to]), steps, seen);
    }
    for (const from of [1, 2, 3]) meet(from, 0);
    assertExact(sides[0] as State, seen);
    for (const from of [1, 2, 3]) meet(from, 0);
    assertExact(sides[0] as State, seen);
  }));
});
