import assert from "node:assert/strict";
import type { Command } from "../../core/commands.ts";
import { AppError, type ErrorCode } from "../../core/errors.ts";
import type { Event, IndexedEvent } from "../../core/events.ts";
import { type LocalFacts, NO_FACTS, subjectOf } from "../../core/facts.ts";
import { encodeState } from "../../core/state.ts";
import type { NodeMemory } from "../../core/telemetry.ts";
import { GIB } from "../../core/units.ts";
import { MemoryNetwork } from "../../net/memory.ts";
import { SYSTEM_CLOCK } from "../../node/clock.ts";
import { ControlPlane, type ControlPlaneDeps } from "../../node/control_plane.ts";
import { EventLog } from "../../node/event_log.ts";
import { Replica } from "../../node/replica.ts";
import {
  A,
  cardOf,
  commandId,
  instanceId,
  metaInstanceId,
  nodeStarted,
  placementOf,
  reported,
} from "../support/fixtures.ts";
import { eventually } from "../support/eventually.ts";
import { TempDir } from "../support/temp_dir.ts";

/** A control plane with a real log. */
async function world(
  options: Partial<Pick<ControlPlaneDeps, "lookUpCard" | "memory">> = {},
  before: readonly IndexedEvent[] = [],
) {
  const dir = await TempDir.make();
  const eventLog = EventLog.open(dir.path);
  eventLog.store([{ type: "Persist", events: before }]);
  const left = eventLog.replay();
  const replica = new Replica(left.state);
  const memory: NodeMemory = { ramTotalBytes: 2 * GIB, ramAvailableBytes: GIB };
  const control = new ControlPlane({
    nodeId: A,
    replica,
    eventLog,
    transport: new MemoryNetwork().join(A),
    clock: SYSTEM_CLOCK,
    memory: () => memory,
    lookUpCard: () => Promise.resolve({ ok: false, reason: "nobody knows it" }),
    left,
    ...options,
  });
  control.start();
  const kinds = () => replica.state.lastEventAppliedIdx;
  return {
    control,
    replica,
    eventLog,
    kinds,
    [Symbol.asyncDispose]: async () => {
      control.stop();
      eventLog.close();
      await dir[Symbol.asyncDispose]();
    },
  };
}

function factsOf(...events: readonly Event[]): LocalFacts {
  return { ...NO_FACTS, reports: new Map(events.map((event) => [subjectOf(event), event])) };
}

async function fails(promise: Promise<unknown>, code: ErrorCode, message: RegExp): Promise<void> {
  await assert.rejects(promise, (thrown) => {
    assert.ok(thrown instanceof AppError, String(thrown));
    assert.equal(thrown.code, code);
    assert.match(thrown.message, message);
    return true;
  });
}

const addCard: Command = {
  type: "AddCustomModelCard",
  commandId: commandId("c"),
  modelCard: cardOf(),
};
const place: Command = {
  type: "PlaceInstance",
  commandId: commandId("p"),
  instanceId: instanceId("i"),
  request: placementOf(),
};

Deno.test("a lone node leads at once; its disk has what its state has", async () => {
  await using here = await world();
  assert.deepEqual(here.control.epoch(), { clock: 1, nodeId: A });
  here.control.report(factsOf(nodeStarted(A)));
  const added = await here.control.submit(addCard);
  assert.deepEqual(added, { type: "CommandAccepted", commandId: "c", idx: 2 });
  const placed = await here.control.submit(place);
  assert.deepEqual([placed.idx, placed.instanceId], [3, "i"]);
  const { state, epoch } = here.eventLog.replay();
  assert.equal(encodeState(state), encodeState(here.replica.state));
  assert.deepEqual(epoch, { clock: 1, nodeId: A });
});

Deno.test("each start begins an epoch above those on the disk", async () => {
  await using dir = await TempDir.make();
  for (const clock of [1, 2, 3]) {
    const eventLog = EventLog.open(dir.path);
    const left = eventLog.replay();
    const control = new ControlPlane({
      nodeId: A,
      replica: new Replica(left.state),
      eventLog,
      transport: new MemoryNetwork().join(A),
      clock: SYSTEM_CLOCK,
      memory: () => ({ ramTotalBytes: 1, ramAvailableBytes: 1 }),
      lookUpCard: () => Promise.reject(new Error("no")),
      left,
    });
    control.start();
    assert.equal(control.epoch()?.clock, clock);
    control.stop();
    eventLog.close();
  }
});

Deno.test("a rejected command stores nothing and says why", async () => {
  await using here = await world();
  const before = here.replica.state;
  await fails(here.control.submit(place), "model_not_found", /not known/);
  assert.equal(here.replica.state, before);
});

Deno.test("each command of a burst sees the state that the last one left", async () => {
  await using here = await world();
  here.control.report(factsOf(nodeStarted(A)));
  await here.control.submit({
    ...addCard,
    modelCard: cardOf({ storageSize: { inBytes: 0.4 * GIB | 0 } }),
  });
  const placements = ["1", "2", "3", "4"].map((id) =>
    here.control.submit({ ...place, commandId: commandId(id), instanceId: instanceId(id) })
  );
  const settled = await Promise.allSettled(placements);
  const taken = settled.filter(({ status }) => status === "fulfilled").length;
  assert.equal(taken, 2, "1 GiB holds two of 0.4 GiB");
});

Deno.test("a failed runner is answered by a retry", async () => {
  await using here = await world();
  here.control.report(factsOf(nodeStarted(A)));
  await here.control.submit(addCard);
  await here.control.submit(place);
  here.control.report(factsOf(nodeStarted(A), reported("i:0", "RunnerFailed")));
  const attempts = () => here.replica.state.instanceRetries.get(instanceId("i"))?.attempts;
  await eventually("it is tried again", () => attempts() === 1);
  assert.equal(here.replica.state.runners.size, 0);
});

Deno.test("what the log cannot store has not happened; facts are told again", async () => {
  await using here = await world();
  const { store } = here.eventLog;
  here.eventLog.store = (writes) => {
    if (writes.length === 0) return false;
    throw new AppError("storage_failed", "the disk is full");
  };
  await fails(here.control.submit(addCard), "storage_failed", /disk is full/);
  here.control.report(factsOf(nodeStarted(A)));
  assert.equal(here.replica.state.lastEventAppliedIdx, 0);
  here.eventLog.store = store;
  await eventually("the node is known", () => here.replica.state.nodes.has(A));
  assert.equal((await here.control.submit(addCard)).type, "CommandAccepted");
});

Deno.test("a log that cannot be compacted is longer for it, and nothing else", async () => {
  await using here = await world();
  here.eventLog.compact = () => {
    throw new AppError("storage_failed", "the disk is full");
  };
  assert.equal((await here.control.submit(addCard)).type, "CommandAccepted");
});

Deno.test("events are had by their index, those of earlier processes too", async () => {
  const epoch = { clock: 1, nodeId: A };
  const before = [{ type: "EpochStarted" as const }, nodeStarted(A)]
    .map((event, idx) => ({ idx, epoch, event }));
  await using one = await world({}, before);
  const types = (since: number, limit: number) =>
    one.control.events(since, limit).events.map(({ event }) => event.type);
  assert.deepEqual(types(0, 10), ["EpochStarted", "NodeStarted", "EpochStarted"]);
  assert.deepEqual(types(1, 1), ["NodeStarted"]);
  one.control.report(factsOf(nodeStarted(A, 2)));
  assert.deepEqual(types(2, 10), ["EpochStarted", "NodeStarted"]);
  assert.deepEqual(types(4, 10), []);
  assert.deepEqual([0, 3].map((since) => one.control.events(since, 10).oldestIdx), [0, 2]);
  assert.equal(one.eventLog.events(0, 10).events.length, 4);
  one.eventLog.store([
    { type: "Install", state: one.replica.state, epoch: one.control.epoch() ?? epoch },
  ]);
  assert.deepEqual(one.control.events(1, 10), { oldestIdx: 2, events: [] });
  assert.deepEqual(types(2, 1), ["EpochStarted"], "memory has what the disk has not any more");
});

Deno.test("the card of a wish is looked up; what nobody knows is the reason", async () => {
  const asked: string[] = [];
  await using here = await world({
    lookUpCard: (modelId) => {
      asked.push(modelId);
      return Promise.reject(new Error("the hub is away"));
    },
  });
  const id = metaInstanceId("m");
  await here.control.submit({
    type: "CreateMetaInstance",
    commandId: commandId("m"),
    metaInstance: { ...placementOf(), metaInstanceId: id, pin: "prefer", maxRetries: 3 },
    instanceId: instanceId("i"),
  });
  const reason = () => here.replica.state.metaInstances.get(id)?.placementError ?? "";
  await eventually("it says why", () => reason().includes("the hub is away"));
  assert.match(reason(), /^Failed to load model card: /);
  assert.deepEqual(asked, [placementOf().modelId]);
});

Deno.test("a stopping node answers who waits, and takes nothing more", async () => {
  await using here = await world();
  here.control.stop();
  await fails(here.control.submit(addCard), "not_ready", /stopping/);
});
