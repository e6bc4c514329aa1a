import assert from "node:assert/strict";
import type { Command, CommandReply } from "../../core/commands.ts";
import { CommandReply as CommandReplySchema } from "../../core/commands.ts";
import type { Event, IndexedEvent } from "../../core/events.ts";
import { encodeState } from "../../core/state.ts";
import { GIB } from "../../core/units.ts";
import { MemoryNetwork } from "../../net/memory.ts";
import { COMMAND, decodeMessage, encodeMessage, GLOBAL_EVENTS, REPORT } from "../../net/topics.ts";
import { SYSTEM_CLOCK } from "../../node/clock.ts";
import { EventLog } from "../../node/event_log.ts";
import { Master } from "../../node/master.ts";
import { Replica } from "../../node/replica.ts";
import {
  A,
  B,
  cardOf,
  commandId,
  instanceId,
  memoryOf,
  nodeStarted,
  placementOf,
  reported,
  telemetryOf,
} from "../support/cluster.ts";
import { TempDir } from "../support/temp_dir.ts";

/** A master with a real log, and a second node that asks it and hears it. */
async function world() {
  const dir = await TempDir.make();
  const eventLog = EventLog.open(dir.path);
  const replica = new Replica(eventLog.replay().state);
  const network = new MemoryNetwork();
  const transport = network.join(A);
  const other = network.join(B);
  const heard: IndexedEvent[] = [];
  other.subscribe(GLOBAL_EVENTS.topic, (bytes) => {
    heard.push(...decodeMessage(GLOBAL_EVENTS.schema, bytes));
  });
  const epoch = { clock: 4, nodeId: A };
  const telemetry = () => telemetryOf(memoryOf(GIB));
  const clock = SYSTEM_CLOCK;
  const lookUpCard = () => ({ ok: false as const, reason: "nobody knows it" });
  const deps = { replica, eventLog, transport, clock, epoch, telemetry, lookUpCard };
  const master = new Master(deps);
  master.start();
  const options = { timeoutMs: 20_000 };
  return {
    replica,
    eventLog,
    heard,
    command: async (command: Command): Promise<CommandReply> => {
      const body = encodeMessage(command);
      const reply = await other.request(A, COMMAND.protocol, body, options);
      return decodeMessage(CommandReplySchema, reply);
    },
    report: (...events: Event[]) =>
      other.request(A, REPORT.protocol, encodeMessage(events), options),
    [Symbol.asyncDispose]: async () => {
      master.stop();
      eventLog.close();
      await dir[Symbol.asyncDispose]();
    },
  };
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

Deno.test("T7: reports and commands get consecutive places; all copies agree", async () => {
  await using here = await world();
  await here.report(nodeStarted(A));
  assert.deepEqual(await here.command(addCard), {
    type: "CommandAccepted",
    commandId: "c",
    idx: 1,
  });
  const placed = await here.command(place);
  assert.deepEqual(placed, {
    type: "CommandAccepted",
    commandId: "p",
    idx: 2,
    instanceId: "i",
  });
  const kinds = here.heard.map(({ idx, event }) => `${idx} ${event.type}`);
  assert.deepEqual(kinds, ["0 NodeStarted", "1 CustomModelCardAdded", "2 InstanceCreated"]);
  assert.ok(here.heard.every(({ epoch }) => epoch.clock === 4 && epoch.nodeId === A));
  const { state, epoch } = here.eventLog.replay();
  assert.equal(encodeState(state), encodeState(here.replica.state));
  assert.deepEqual(epoch, { clock: 4, nodeId: A });
});

Deno.test("a rejected command stores nothing, tells nobody, and says why", async () => {
  await using here = await world();
  const reply = await here.command(place);
  assert.ok(reply.type === "CommandRejected");
  assert.equal(reply.error.code, "model_not_found");
  assert.deepEqual(here.heard, []);
  assert.equal(here.eventLog.replay().state.lastEventAppliedIdx, -1);
});

Deno.test("each command of a burst sees the state that the last one left", async () => {
  await using here = await world();
  await here.report(nodeStarted(A));
  await here.command({
    ...addCard,
    modelCard: cardOf({ storageSize: { inBytes: 0.4 * GIB | 0 } }),
  });
  const replies = await Promise.all(
    ["1", "2", "3", "4"].map((id) =>
      here.command({ ...place, commandId: commandId(id), instanceId: instanceId(id) })
    ),
  );
  const types = replies.map(({ type }) => type);
  const taken = types.filter((type) => type === "CommandAccepted").length;
  assert.equal(taken, 2, "1 GiB holds two of 0.4 GiB");
});

Deno.test("a failed runner is answered by InstanceRetrying in the same breath", async () => {
  await using here = await world();
  await here.report(nodeStarted(A));
  await here.command(addCard);
  await here.command(place);
  await here.report(reported("i:0", "RunnerFailed"));
  const last = here.heard.slice(-2).map(({ event }) => event.type);
  assert.deepEqual(last, ["RunnerStatusUpdated", "InstanceRetrying"]);
  const retry = here.replica.state.instanceRetries.get(instanceId("i"));
  assert.equal(retry?.attempts, 1);
  assert.equal(here.replica.state.runners.size, 0);
});

Deno.test("what the log cannot store is neither applied nor published", async () => {
  await using here = await world();
  await here.report(nodeStarted(A));
  const { append } = EventLog.prototype;
  here.eventLog.append = () => {
    throw new Error("the disk is full");
  };
  const reply = await here.command(addCard);
  assert.ok(reply.type === "CommandRejected");
  assert.match(reply.error.message, /disk is full/);
  await assert.rejects(here.report(nodeStarted(B)), /disk is full/);
  assert.equal(here.heard.length, 1);
  assert.equal(here.replica.state.lastEventAppliedIdx, 0);
  here.eventLog.append = append;
  assert.equal((await here.command(addCard)).type, "CommandAccepted");
});
