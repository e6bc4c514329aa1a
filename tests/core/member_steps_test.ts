/** Single steps of a member: messages that are stale, foreign or too many, and rare turns. */
import { deepEqual, equal, ok } from "node:assert/strict";
import type { Command, CommandReply } from "../../core/commands.ts";
import { FORCED_SENIORITY, LEASE_MS } from "../../core/election.ts";
import type { Event } from "../../core/events.ts";
import { edgeSubject, NO_FACTS } from "../../core/facts.ts";
import { InstanceLinkId, MetaInstanceId, ModelId, NodeId } from "../../core/ids.ts";
import type { Epoch } from "../../core/lineage.ts";
import { headOf } from "../../core/log_tail.ts";
import {
  type Input,
  type Member,
  type Output,
  startMember,
  step,
  wakeAt,
} from "../../core/member.ts";
import { CARD_LOOKUP_MS, CARD_RETRY_MS } from "../../core/member_cards.ts";
import { PENDING_COMMANDS_MAX, REPLICATE_WAIT_MS } from "../../core/member_commands.ts";
import { REPORT_RETRY_MS } from "../../core/member_follower.ts";
import { FOLLOWER_LIVE_MS, HEARTBEAT_MS, REPLIES_MAX } from "../../core/member_master.ts";
import {
  TELEMETRY_GAP_MS,
  TELEMETRY_MS,
  TELEMETRY_REFRESH_MS,
  TELEMETRY_TOGETHER_MS,
  TELEMETRY_TOLD_MAX,
} from "../../core/member_telemetry.ts";
import { MetaInstanceSpec } from "../../core/meta_instance.ts";
import {
  EPOCH_CLOCK_LEAP_MAX,
  EVENTS_PAGE_MAX,
  type Message,
  type MessageOf,
  NODES_MAX,
} from "../../core/protocol.ts";
import { EMPTY_STATE, type State, stateToJson } from "../../core/state.ts";
import {
  A,
  B,
  C,
  cardOf,
  commandId,
  created,
  fold,
  instanceId,
  instanceOf,
  MODEL,
  nodeStarted,
  placementOf,
  reported,
  taskCreated,
  taskOf,
} from "../support/fixtures.ts";
import { socket } from "../support/control_plane.ts";
import { linkKey, type LinkQuality } from "../../core/telemetry.ts";
import { apply } from "../../core/apply.ts";

const FIRST: Epoch = { clock: 1, nodeId: A };
const SECOND: Epoch = { clock: 2, nodeId: C };

/** A member with a clock of its own. */
class Alone {
  member: Member;
  outputs: Output[] = [];
  uptime = 0;
  #ids = 0;

  constructor(options: Partial<Parameters<typeof startMember>[0]> = {}) {
    const all = { nodeId: B, state: EMPTY_STATE, isAlone: false, ...options };
    const { member, outputs } = startMember(all, this.#context());
    this.member = member;
    this.outputs.push(...outputs);
  }

  give(input: Input): this {
    const { member, outputs } = step(this.member, input, this.#context());
    this.member = member;
    this.outputs.push(...outputs);
    return this;
  }

  hear(from: NodeId, message: Message): this {
    return this.give({ type: "Message", from, message });
  }

  ask(command: Command): this {
    return this.give({ type: "Command", command });
  }

  wait(ms: number): this {
    this.uptime += ms;
    return this.give({ type: "Tick" });
  }

  /** Follows A's first epoch, with its state. */
  follow(state: State = STARTED): this {
    this.hear(A, heartbeat(FIRST, state));
    return this.hear(A, { type: "Snapshot", epoch: FIRST, state: stateToJson(state) });
  }

  take(): Output[] {
    return this.outputs.splice(0);
  }

  /** Messages of one type that were sent since the last look. */
  sent<T extends Message["type"]>(type: T): MessageOf<T>[] {
    return this.take().flatMap((output) =>
      "message" in output && output.message.type === type ? [output.message as MessageOf<T>] : []
    );
  }

  replies(): CommandReply[] {
    return this.take().flatMap((output) => (output.type === "Reply" ? [output.reply] : []));
  }

  /** Whether an input was dropped, and changed nothing else. */
  drops(from: NodeId, message: Message): void {
    const before = this.member;
    this.hear(from, message);
    equal(this.member.dropped, before.dropped + 1, message.type);
    deepEqual(headOf(this.member.state), headOf(before.state));
  }

  #context() {
    const { uptime } = this;
    return { uptime, now: 1_000_000 + uptime, freshId: `fresh-${++this.#ids}` };
  }
}

const STARTED = fold([{ type: "EpochStarted" }, nodeStarted(A), nodeStarted(B)]);

function heartbeat(epoch: Epoch, state: State, seniority = 2): MessageOf<"Heartbeat"> {
  return { type: "Heartbeat", epoch, head: { epoch, idx: state.lastEventAppliedIdx }, seniority };
}

function telemetryMessage(
  epoch: Epoch,
  values: Partial<MessageOf<"Telemetry">> = {},
): MessageOf<"Telemetry"> {
  return { type: "Telemetry", epoch, memory: [], disk: [], system: [], links: [], ...values };
}

/** The state after events of a later epoch. */
function next(state: State, epoch: Epoch, ...events: readonly Event[]): State {
  return events.reduce(
    (state, event) => apply(state, { idx: state.lastEventAppliedIdx + 1, epoch, event }),
    state,
  );
}

function add(id: string, name = id): Command {
  const modelCard = cardOf({ modelId: ModelId.parse(name) });
  return { type: "AddCustomModelCard", commandId: commandId(id), modelCard };
}

function leader(options: Partial<Parameters<typeof startMember>[0]> = {}): Alone {
  return new Alone({ nodeId: A, isAlone: true, ...options });
}

function page(previous: MessageOf<"Events">["previous"], ...events: Event[]): MessageOf<"Events"> {
  const indexed = events.map((event, at) => ({ idx: previous.idx + 1 + at, epoch: FIRST, event }));
  return { type: "Events", epoch: FIRST, previous, events: indexed, acknowledgers: [] };
}

const gone = (name: string): Event => ({
  type: "TaskDeleted",
  taskId: taskOf(name, "i").taskId,
});

Deno.test("what nobody may say is dropped: by this node itself, or to one that does not lead", () => {
  const head = headOf(STARTED);
  const candidate = new Alone();
  candidate.drops(B, { type: "Following", epoch: FIRST, idx: 1 });
  const toMaster: readonly Message[] = [
    { type: "Following", epoch: FIRST, idx: 1 },
    { type: "SyncRequest", epoch: FIRST, head },
    { type: "Report", epoch: FIRST, events: [nodeStarted(C)] },
    { type: "CommandRequest", epoch: FIRST, command: add("c") },
    { type: "CommandAnswer", epoch: FIRST, reply: accepted("c", 1) },
    telemetryMessage(FIRST),
    page(head, gone("t")),
    { type: "Snapshot", epoch: FIRST, state: stateToJson(STARTED) },
    { type: "HeadState", clock: 1, state: stateToJson(STARTED) },
  ];
  for (const message of toMaster) candidate.drops(C, message);
  candidate.drops(C, heartbeat(FIRST, STARTED));
  candidate.drops(C, objection(C, FIRST));
  equal(candidate.member.master, undefined, "nobody reigns by the epoch of another");
  const follower = new Alone().follow();
  follower.drops(C, { type: "HeadRequest", clock: 1 });
  follower.drops(C, telemetryMessage(FIRST));
  follower.drops(C, telemetryMessage(SECOND));
  follower.drops(C, { ...objection(A, FIRST), master: C });
  const master = leader();
  for (const message of toMaster.slice(0, 3)) {
    master.drops(C, { ...message, epoch: { clock: 9, nodeId: C } } as Message);
  }
  master.drops(C, objection(A, FIRST));
});

function objection(master: NodeId, epoch: Epoch): MessageOf<"Objection"> {
  return { type: "Objection", master, epoch, head: { epoch, idx: 5 }, seniority: 2, leaseMs: 500 };
}

function accepted(id: string, idx: number): CommandReply {
  return { type: "CommandAccepted", commandId: commandId(id), idx };
}

Deno.test("pages and snapshots that cannot be are dropped", () => {
  const follower = new Alone().follow();
  const head = headOf(STARTED);
  follower.drops(C, page(head, gone("t")));
  follower.drops(A, { ...page(head, gone("t")), epoch: SECOND });
  const [first] = page(head, gone("t")).events;
  ok(first);
  follower.drops(A, { ...page(head), events: [{ ...first, idx: 7 }] });
  follower.drops(A, { ...page(head), events: [{ ...first, epoch: SECOND }] });
  follower.drops(A, { ...page({ epoch: SECOND, idx: 2 }), events: [first] });
  follower.drops(A, { type: "Snapshot", epoch: FIRST, state: stateToJson(STARTED) });
  const older = fold([{ type: "EpochStarted" }]);
  const fresh = new Alone().hear(C, heartbeat(SECOND, STARTED));
  equal(fresh.member.master, C);
  fresh.drops(C, { type: "Snapshot", epoch: SECOND, state: stateToJson(older) });
});

Deno.test("a master's heartbeat of an earlier epoch of its own comes late, and is dropped", () => {
  const third: Epoch = { clock: 3, nodeId: A };
  const follower = new Alone().hear(A, heartbeat(third, STARTED));
  follower.drops(A, heartbeat(FIRST, STARTED));
  deepEqual(follower.member.epoch, third);
});

Deno.test("of two different events for one index the first is held", () => {
  const follower = new Alone().follow();
  const later = { epoch: FIRST, idx: 5 };
  follower.hear(A, page(later, gone("one"))).drops(A, page(later, gone("other")));
  follower.hear(A, page(headOf(STARTED), gone("a"), gone("b"), gone("c")));
  equal(follower.member.state.lastEventAppliedIdx, 6);
});

Deno.test("a command waits once, and only so many wait", () => {
  const node = new Alone();
  node.ask(add("twice")).ask(add("twice"));
  equal(node.member.pending.size, 1);
  for (let at = 1; at < PENDING_COMMANDS_MAX; at++) node.ask(add(`c${at}`));
  deepEqual(codes(node.replies()), []);
  deepEqual(codes(node.ask(add("over")).replies()), ["queue_full"]);
  const after = node.wait(10_000).replies();
  deepEqual([after.length, ...new Set(codes(after))], [PENDING_COMMANDS_MAX, "timed_out"]);
});

function codes(replies: readonly CommandReply[]): string[] {
  return replies.map((reply) => reply.type === "CommandAccepted" ? "accepted" : reply.error.code);
}

Deno.test("a command of another epoch is refused and never executed", () => {
  const master = leader();
  master.hear(B, { type: "CommandRequest", epoch: SECOND, command: add("c") });
  const [answer] = master.sent("CommandAnswer");
  ok(answer?.reply.type === "CommandRejected");
  ok(answer.reply.error.message.includes("stale epoch"));
  equal(master.member.state.customModelCards.size, 0);
});

Deno.test("a command that is asked again is answered again, and executed once", () => {
  const master = leader();
  const request = { type: "CommandRequest", epoch: FIRST, command: add("c") } as const;
  const [first, second] = master.hear(B, request).hear(B, request).sent("CommandAnswer");
  deepEqual(first, second);
  equal(master.member.state.lastEventAppliedIdx, 1);
  const other: Command = {
    type: "TaskFinished",
    commandId: commandId("x"),
    finishedCommandId: commandId("y"),
  };
  for (let at = 0; at <= REPLIES_MAX; at++) {
    const command = { ...other, commandId: commandId(`x${at}`) };
    master.hear(B, { type: "CommandRequest", epoch: FIRST, command });
  }
  equal(master.member.reign?.replies.size, REPLIES_MAX);
  equal(master.member.reign?.replies.has(commandId("c")), false);
});

Deno.test("a master's own client waits for a second node, if there is one, and not for long", () => {
  const master = leader().hear(B, { type: "Following", epoch: FIRST, idx: 0 });
  deepEqual(codes(master.ask(add("c1")).replies()), []);
  master.hear(B, { type: "Following", epoch: FIRST, idx: 1 });
  deepEqual(codes(master.replies()), ["accepted"]);
  master.ask(add("c2"));
  deepEqual(codes(master.wait(REPLICATE_WAIT_MS - 1).replies()), []);
  deepEqual(codes(master.wait(1).replies()), ["accepted"]);
  const nothing: Command = {
    type: "TaskFinished",
    commandId: commandId("c3"),
    finishedCommandId: commandId("none"),
  };
  deepEqual(codes(master.ask(nothing).wait(5_000).replies()), ["accepted"]);
});

Deno.test("an accepted command is answered once the log has its event", () => {
  const follower = new Alone().follow().ask(add("c"));
  follower.hear(A, { type: "CommandAnswer", epoch: FIRST, reply: accepted("c", 3) });
  follower.drops(A, { type: "CommandAnswer", epoch: FIRST, reply: accepted("c", 3) });
  ok((wakeAt(follower.member) ?? 0) > 0);
  deepEqual(codes(follower.replies()), []);
  follower.hear(A, page(headOf(STARTED), gone("t")));
  deepEqual(codes(follower.replies()), ["accepted"]);
});

/** One command of each kind, about things that {@linkcode MADE} has. */
const LINK = InstanceLinkId.parse("l");
const META = MetaInstanceId.parse("m");
const spec = MetaInstanceSpec.parse({ ...placementOf(), metaInstanceId: META });
const CREATIONS: readonly Command[] = [
  {
    type: "PlaceInstance",
    commandId: commandId("1"),
    instanceId: instanceId("i"),
    request: placementOf(),
  },
  { type: "CreateInstance", commandId: commandId("2"), instance: instanceOf("i", [A]) },
  { type: "TextGeneration", commandId: commandId("3"), modelId: MODEL, apiNodeId: B },
  { type: "ImageGeneration", commandId: commandId("4"), modelId: MODEL, apiNodeId: B },
  { type: "ImageEdits", commandId: commandId("5"), modelId: MODEL, apiNodeId: B },
  { type: "AddCustomModelCard", commandId: commandId("6"), modelCard: cardOf() },
  {
    type: "SetInstanceLink",
    commandId: commandId("7"),
    linkId: LINK,
    prefillInstances: [instanceId("i")],
    decodeInstances: [instanceId("i")],
  },
  {
    type: "CreateMetaInstance",
    commandId: commandId("8"),
    metaInstance: spec,
    instanceId: instanceId("i"),
  },
];
const DELETIONS: readonly Command[] = [
  { type: "DeleteInstance", commandId: commandId("11"), instanceId: instanceId("i") },
  { type: "DeleteCustomModelCard", commandId: commandId("12"), modelId: MODEL },
  { type: "DeleteInstanceLink", commandId: commandId("13"), linkId: LINK },
  { type: "DeleteMetaInstance", commandId: commandId("14"), metaInstanceId: META },
];
const REPEATABLE: readonly Command[] = [
  { type: "TaskCancelled", commandId: commandId("21"), cancelledCommandId: commandId("3") },
  { type: "TaskFinished", commandId: commandId("22"), finishedCommandId: commandId("3") },
  { type: "RetryMetaInstance", commandId: commandId("23"), metaInstanceId: META },
  {
    type: "MergeLineage",
    commandId: commandId("24"),
    against: [],
    segments: [],
    modelCards: [],
    metaInstances: [],
    instances: [],
    links: [],
    deleted: [],
  },
];
const THINGS: readonly Event[] = [
  { type: "CustomModelCardAdded", modelCard: cardOf() },
  created(instanceOf("i", [A])),
  {
    type: "InstanceLinkCreated",
    link: { linkId: LINK, prefillInstances: [instanceId("i")], decodeInstances: [instanceId("i")] },
  },
  {
    type: "MetaInstanceCreated",
    metaInstance: { ...spec, phase: "placing", consecutiveFailures: 0, instancesCreated: 0 },
  },
  ...["3", "4", "5"].map((id) => taskCreated(taskOf(id, "i"))),
];
const ENDS: readonly Event[] = [
  { type: "InstanceLinkDeleted", linkId: LINK },
  { type: "InstanceDeleted", instanceId: instanceId("i") },
  { type: "MetaInstanceDeleted", metaInstanceId: META },
  { type: "CustomModelCardDeleted", modelId: MODEL },
];

/** Asks all of them in one epoch; another begins before there is an answer. */
function acrossEpochs(commands: readonly Command[], before: State, after: State): Alone {
  const follower = new Alone().follow(before);
  for (const command of commands) follower.ask(command);
  equal(follower.sent("CommandRequest").length, commands.length);
  follower.wait(LEASE_MS).hear(C, heartbeat(SECOND, after));
  follower.take();
  return follower.hear(C, { type: "Snapshot", epoch: SECOND, state: stateToJson(after) });
}

Deno.test("after a change of master, what was to be created is looked for", () => {
  const made = next(STARTED, SECOND, { type: "EpochStarted" }, ...THINGS);
  deepEqual(
    new Set(codes(acrossEpochs(CREATIONS, STARTED, made).replies())),
    new Set(["accepted"]),
  );
  const empty = next(STARTED, SECOND, { type: "EpochStarted" });
  const lost = acrossEpochs(CREATIONS, STARTED, empty).replies();
  deepEqual([lost.length, ...new Set(codes(lost))], [CREATIONS.length, "master_changed"]);
});

Deno.test("after a change of master, what can be repeated is sent anew", () => {
  const empty = next(STARTED, SECOND, { type: "EpochStarted" });
  const all = [...DELETIONS, ...REPEATABLE];
  const requests = acrossEpochs(all, STARTED, empty).sent("CommandRequest");
  deepEqual(requests.map(({ command }) => command), all);
  ok(requests.every(({ epoch }) => epoch.clock === 2));
});

Deno.test("after a change of master, a deletion is done if this history knew the thing", () => {
  const before = next(STARTED, FIRST, ...THINGS);
  const kept = next(before, SECOND, { type: "EpochStarted" });
  const gone = next(kept, SECOND, ...ENDS);
  const done = acrossEpochs(DELETIONS, before, gone).replies();
  deepEqual([done.length, ...new Set(codes(done))], [DELETIONS.length, "accepted"]);
  equal(acrossEpochs(DELETIONS, before, kept).sent("CommandRequest").length, DELETIONS.length);
});

Deno.test("an accepted command whose event the new history lacks is looked for, too", () => {
  const follower = new Alone().follow().ask(add("c"));
  follower.hear(A, { type: "CommandAnswer", epoch: FIRST, reply: accepted("c", 3) });
  const after = next(STARTED, SECOND, { type: "EpochStarted" });
  follower.wait(LEASE_MS).hear(C, heartbeat(SECOND, after));
  follower.hear(C, { type: "Snapshot", epoch: SECOND, state: stateToJson(after) });
  deepEqual(codes(follower.replies()), ["master_changed"]);
});

Deno.test("an earlier branch is kept within a later one", () => {
  const branch = (epoch: Epoch, name: string) =>
    next(STARTED, epoch, { type: "EpochStarted" }, {
      type: "CustomModelCardAdded",
      modelCard: cardOf({ modelId: ModelId.parse(name) }),
    });
  const [one, two] = [
    branch({ clock: 2, nodeId: A }, "one"),
    branch({ clock: 3, nodeId: A }, "two"),
  ];
  const winner = next(STARTED, { clock: 4, nodeId: C }, { type: "EpochStarted" });
  const epoch = { clock: 4, nodeId: C };
  const kept = (state: State, earlier: State) => {
    const node = new Alone({ state, branch: earlier });
    node.hear(C, heartbeat(epoch, winner));
    node.take();
    node.hear(C, { type: "Snapshot", epoch, state: stateToJson(winner) });
    const [output] = node.take();
    ok(output?.type === "KeepBranch" && output.branch);
    return [...output.branch.customModelCards.keys()];
  };
  deepEqual(kept(two, one), ["two", "one"]);
  // Of which this node's own history knows all; and one that cannot be.
  deepEqual(kept(two, STARTED), ["two"]);
  const impossible = next(two, { clock: 3, nodeId: A }, gone("t"));
  deepEqual(kept(two, impossible), ["two"]);
});

Deno.test("a branch of which everything is known is let go", () => {
  const node = new Alone({ branch: STARTED }).follow();
  equal(node.member.branch !== undefined, true);
  node.wait(900).hear(A, heartbeat(FIRST, STARTED)).wait(900);
  equal(node.member.branch, undefined);
});

Deno.test("an elected node waits for a newer head only so long, and takes only what is newer", () => {
  const vote = (head = { epoch: FIRST, idx: 5 }): Message => ({
    type: "Candidacy",
    clock: 2,
    seniority: 0,
    head,
    epoch: FIRST,
  });
  const elected = () => {
    const node = new Alone({ seniority: 3 }).hear(C, vote()).wait(800);
    equal(node.sent("HeadRequest").length, 1);
    return node;
  };
  const patient = elected().wait(200);
  equal(patient.sent("HeadRequest").length, 1);
  patient.drops(A, { type: "HeadState", clock: 2, state: stateToJson(STARTED) });
  patient.drops(C, { type: "HeadState", clock: 7, state: stateToJson(STARTED) });
  equal(patient.wait(600).member.role, "master");
  const told = elected().hear(C, { type: "HeadState", clock: 2, state: stateToJson(STARTED) });
  equal(told.member.state.nodes.size, 2);
  const empty = elected().hear(C, { type: "HeadState", clock: 2, state: stateToJson(EMPTY_STATE) });
  deepEqual([empty.member.role, empty.member.state.lastEventAppliedIdx], ["master", 0]);
});

Deno.test("what a node has fetched does not take back the epoch that it has seen", () => {
  const epoch = { clock: 9, nodeId: C };
  const node = new Alone({ epoch, seniority: 3 });
  const head = { epoch: FIRST, idx: 5 };
  node.hear(C, { type: "Candidacy", clock: 10, seniority: 0, head, epoch: FIRST }).wait(800);
  node.hear(C, { type: "HeadState", clock: 10, state: stateToJson(STARTED) });
  const install = node.take().find(({ type }) => type === "Install");
  deepEqual(install?.type === "Install" && install.epoch, epoch);
  equal(node.member.epoch?.clock, 10);
});

Deno.test("the cards of models that wishes name are asked for, again after a minute", () => {
  const metaInstance = MetaInstanceSpec.parse({ ...placementOf(), metaInstanceId: META });
  const twin = { ...metaInstance, metaInstanceId: MetaInstanceId.parse("twin") };
  const master = leader();
  const asked = () => master.take().filter(({ type }) => type === "LookUpCard").length;
  for (const [at, wish] of [metaInstance, twin].entries()) {
    const command = {
      type: "CreateMetaInstance" as const,
      commandId: commandId(`m${at}`),
      metaInstance: wish,
      instanceId: instanceId(`i${at}`),
    };
    master.ask(command).wait(1_000);
  }
  equal(asked(), 1);
  master.wait(CARD_LOOKUP_MS);
  equal(asked(), 0);
  deepEqual(master.member.cards.get(MODEL)?.lookup?.ok, false);
  master.wait(1_000).wait(CARD_RETRY_MS);
  equal(asked(), 1);
  const wish = () => master.member.state.metaInstances.get(META);
  master.give({ type: "CardLookup", modelId: MODEL, lookup: { ok: true, modelCard: cardOf() } });
  master.wait(1_000);
  equal(wish()?.modelCard?.modelId, MODEL);
  equal(master.member.cards.size, 0);
  const { dropped } = master.member;
  master.give({ type: "CardLookup", modelId: MODEL, lookup: { ok: true, modelCard: cardOf() } });
  equal(master.member.dropped, dropped + 1);
});

Deno.test("a follower whose master has asked for a card may still be told", () => {
  const lookup = { ok: false as const, reason: "no hub" };
  const node = new Alone().follow();
  const at = 0;
  node.member = { ...node.member, cards: new Map([[MODEL, { at, lookup: undefined }]]) };
  node.give({ type: "CardLookup", modelId: MODEL, lookup });
  deepEqual(node.member.cards.get(MODEL)?.lookup, lookup);
});

Deno.test("latest values go to the master, and from it to all", () => {
  const memory = { ramTotalBytes: 4, ramAvailableBytes: 2 };
  const links = new Map([["node-b>node-a>x", { latencyMs: 1 }]]);
  const follower = new Alone().give({ type: "Telemetry", memory, links });
  equal(follower.sent("Telemetry").length, 0);
  const [told] = follower.follow().sent("Telemetry");
  deepEqual(told, telemetryMessage(FIRST, { memory: [[B, memory]], links: [...links] }));
  follower.give({ type: "Telemetry", memory });
  equal(follower.wait(TELEMETRY_MS / 2).sent("Telemetry").length, 0, "it is what it was");
  follower.hear(A, heartbeat(FIRST, STARTED)).wait(TELEMETRY_MS / 2 - 1);
  follower.hear(A, heartbeat(FIRST, STARTED));
  follower.give({ type: "Telemetry", memory: { ...memory, ramAvailableBytes: 1 } });
  equal(follower.sent("Telemetry").length, 0);
  ok((wakeAt(follower.member) ?? Infinity) <= TELEMETRY_MS);
  equal(follower.wait(1).sent("Telemetry").length, 1);
  const master = leader().give({ type: "Telemetry" });
  ok(told);
  const foreign: [NodeId, typeof memory] = [C, memory];
  master.hear(B, {
    ...told,
    memory: [...told.memory, foreign],
    links: [...told.links, ["c>d>e", {}]],
  });
  deepEqual([...master.member.telemetry.memory], [[B, memory]]);
  deepEqual([...master.member.telemetry.links], [...links]);
  const [spread] = master.wait(TELEMETRY_MS).sent("Telemetry");
  ok(spread);
  const other = new Alone({ nodeId: B }).follow();
  other.hear(A, {
    ...spread,
    memory: [[A, memory], [B, memory]],
    links: [...links, ["a>b>x", {}]],
  });
  deepEqual([...other.member.telemetry.memory.keys()], [A]);
  deepEqual([...other.member.telemetry.links.keys()], ["a>b>x"]);
});

Deno.test("a node that led alone tells the master that it joins its memory at once", () => {
  const memory = { ramTotalBytes: 4, ramAvailableBytes: 2 };
  const node = new Alone({ isAlone: true }).give({ type: "Telemetry", memory });
  equal(node.sent("Telemetry").length, 1, "it has told all whom it knew");
  const told = node.wait(1).hear(C, heartbeat(SECOND, STARTED)).take()
    .filter((output) => "message" in output && output.message.type === "Telemetry");
  const message = telemetryMessage(SECOND, { memory: [[B, memory]] });
  deepEqual(told, [{ type: "Send", to: C, message }]);
  node.give({ type: "Telemetry", memory: { ...memory, ramAvailableBytes: 1 } });
  equal(node.wait(TELEMETRY_MS - 1).sent("Telemetry").length, 0, "then once a second, again");
});

Deno.test("disk and system go the way of memory", () => {
  const disk = { totalBytes: 100, availableBytes: 50 };
  const system = { cpuUsage: 0.5 };
  const follower = new Alone().follow().give({ type: "Telemetry", disk, system });
  const [told] = follower.sent("Telemetry");
  deepEqual(told, telemetryMessage(FIRST, { disk: [[B, disk]], system: [[B, system]] }));
  ok(told);
  const master = leader();
  master.hear(B, { ...told, disk: [...told.disk, [C, disk]], system: [...told.system, [C, {}]] });
  deepEqual([...master.member.telemetry.disk], [[B, disk]]);
  deepEqual([...master.member.telemetry.system], [[B, system]]);
  master.hear(B, { type: "Following", epoch: FIRST, idx: -1 });
  const [spread] = master.wait(TELEMETRY_MS).sent("Telemetry");
  deepEqual([spread?.disk, spread?.system], [[[B, disk]], [[B, system]]]);
  ok(spread);
  follower.hear(A, { ...spread, disk: [[A, disk], [B, { totalBytes: 1, availableBytes: 1 }]] });
  deepEqual([...follower.member.telemetry.disk], [[B, disk], [A, disk]]);
});

Deno.test("what has hardly changed is known here at once, and elsewhere with the next refresh", () => {
  const memory = { ramTotalBytes: 1_000, ramAvailableBytes: 500 };
  const follower = new Alone().follow().give({ type: "Telemetry", memory });
  equal(follower.sent("Telemetry").length, 1);
  const later = { ...memory, ramAvailableBytes: 491 };
  const stay = () => follower.wait(500).hear(A, heartbeat(FIRST, STARTED));
  for (let ms = 0; ms < TELEMETRY_REFRESH_MS - 1_000; ms += 500) {
    stay().give({ type: "Telemetry", memory: later });
  }
  equal(follower.sent("Telemetry").length, 0);
  deepEqual(follower.member.telemetry.memory.get(B), later);
  stay();
  stay();
  deepEqual(follower.sent("Telemetry").map(({ memory }) => memory), [[[B, later]]]);
});

Deno.test("a master's own refresh keeps what others have told it in the same second", () => {
  const memory = { ramTotalBytes: 4, ramAvailableBytes: 2 };
  const state = fold([nodeStarted(A), nodeStarted(B)]);
  const epoch: Epoch = { clock: 2, nodeId: A };
  const master = leader({ state }).give({ type: "Telemetry", memory });
  master.wait(TELEMETRY_REFRESH_MS / 2).hear(B, { type: "Following", epoch, idx: -1 });
  master.wait(TELEMETRY_REFRESH_MS / 2 - 1).take();
  master.hear(B, telemetryMessage(epoch, { memory: [[B, memory]] }));
  const heard = master.sent("Telemetry");
  master.hear(B, telemetryMessage(epoch, { memory: [[B, { ...memory, ramAvailableBytes: 1 }]] }));
  const [again] = master.wait(TELEMETRY_MS).sent("Telemetry");
  equal(heard.length, 1);
  deepEqual(again?.memory, [[A, memory], [B, { ...memory, ramAvailableBytes: 1 }]]);
});

Deno.test("who has lost the lead tells its own values only", () => {
  const memory = { ramTotalBytes: 4, ramAvailableBytes: 2 };
  const node = new Alone().follow();
  const { telemetry, telemetryDue } = node.member;
  node.member = {
    ...node.member,
    telemetry: { ...telemetry, memory: new Map([[C, memory]]) },
    telemetryDue: { ...telemetryDue, memory: new Set([C]) },
  };
  const [told] = node.give({ type: "Telemetry", memory }).sent("Telemetry");
  deepEqual(told?.memory, [[B, memory]]);
});

Deno.test("all own values are told again after a while, those of gone nodes are forgotten", () => {
  const memory = { ramTotalBytes: 4, ramAvailableBytes: 2 };
  const state = fold([nodeStarted(A), nodeStarted(B), socket(A, B), socket(B, A)]);
  const way = (source: NodeId, sink: NodeId) => {
    const { connection } = socket(source, sink);
    return linkKey(source, sink, connection.edge);
  };
  const epoch: Epoch = { clock: 2, nodeId: A };
  const links = new Map([[way(A, B), {}], [way(A, C), {}]]);
  const reports = new Map([[edgeSubject(socket(A, B).connection), socket(A, B)]]);
  const master = leader({ state }).give({ type: "Telemetry", memory, links });
  master.give({ type: "Facts", facts: { ...NO_FACTS, reports } });
  const theirs: [string, LinkQuality][] = [[way(B, A), {}], [way(B, C), {}]];
  master.hear(B, telemetryMessage(epoch, { memory: [[B, memory]], links: theirs }));
  master.hear(C, telemetryMessage(epoch, { memory: [[C, memory]] }));
  master.wait(TELEMETRY_REFRESH_MS / 2).hear(B, { type: "Following", epoch, idx: -1 }).take();
  const [again] = master.wait(TELEMETRY_REFRESH_MS / 2).sent("Telemetry");
  deepEqual(again?.memory.map(([id]) => id), [A]);
  deepEqual(again?.links.map(([key]) => key), [way(A, B)]);
  const { telemetry } = master.member;
  deepEqual([...telemetry.memory.keys(), ...telemetry.lastSeen.keys()], [A, B, A, B]);
  deepEqual([...telemetry.links.keys()], [way(A, B), way(B, A)]);
});

Deno.test("a new follower is told all latest values", () => {
  const memory = { ramTotalBytes: 4, ramAvailableBytes: 2 };
  const master = leader().give({ type: "Telemetry", memory }).wait(TELEMETRY_MS);
  master.take();
  master.hear(B, { type: "Following", epoch: FIRST, idx: -1 });
  deepEqual(master.sent("Telemetry")[0]?.memory, [[A, memory]]);
});

Deno.test("the followers of a new master are told all latest values together, a later one alone", () => {
  const memory = { ramTotalBytes: 4, ramAvailableBytes: 2 };
  const following: Message = { type: "Following", epoch: FIRST, idx: -1 };
  const master = leader().give({ type: "Telemetry", memory }).wait(TELEMETRY_MS / 2);
  const told = () =>
    master.take().flatMap((output) => {
      if (!("message" in output) || output.message.type !== "Telemetry") return [];
      return [[output.type === "Send" ? output.to : "all", output.message.memory] as const];
    });
  deepEqual(told(), [["all", [[A, memory]]]]);
  master.hear(B, following).hear(C, following);
  deepEqual(told(), [], "both wait for what is told to all");
  master.wait(TELEMETRY_MS);
  deepEqual(told(), [["all", [[A, memory]]]]);
  master.wait(TELEMETRY_TOGETHER_MS);
  master.hear(NodeId.parse("node-d"), following);
  deepEqual(told(), [["node-d", [[A, memory]]]]);
});

Deno.test("more latest values than a message carries are told one message after the other", () => {
  const memory = { ramTotalBytes: 4, ramAvailableBytes: 2 };
  const links = Array.from(
    { length: TELEMETRY_TOLD_MAX },
    (_, n): [string, LinkQuality] => [`node-b>node-a>${n}`, { latencyMs: 1 }],
  );
  const master = leader().wait(TELEMETRY_MS);
  master.hear(B, telemetryMessage(FIRST, { memory: [[B, memory]], links: links.slice(0, 3) }));
  master.hear(B, telemetryMessage(FIRST, { links: links.slice(3) })).take();
  equal(master.wait(TELEMETRY_GAP_MS - 1).sent("Telemetry").length, 0);
  const [first] = master.wait(TELEMETRY_MS).sent("Telemetry");
  deepEqual(first, telemetryMessage(FIRST, { links: links.slice(3) }), "3 had been told at once");
  const follower = new Alone().follow().give({ type: "Telemetry", memory, links: new Map(links) });
  const [most] = follower.sent("Telemetry");
  const one = links.slice(0, -1);
  deepEqual(most, telemetryMessage(FIRST, { memory: [[B, memory]], links: one }));
  equal(wakeAt(follower.member), TELEMETRY_GAP_MS);
  const [rest] = follower.wait(TELEMETRY_GAP_MS).sent("Telemetry");
  deepEqual(rest, telemetryMessage(FIRST, { links: links.slice(-1) }));
  equal(follower.wait(TELEMETRY_MS / 2).sent("Telemetry").length, 0, "all is told");
});

Deno.test("a master forgets followers that are silent, and tells one that is back all it knows", () => {
  const memory = { ramTotalBytes: 4, ramAvailableBytes: 2 };
  const master = leader().give({ type: "Telemetry", memory });
  const following: Message = { type: "Following", epoch: FIRST, idx: -1 };
  master.hear(B, following).hear(C, following);
  master.wait(2_000).hear(C, following).wait(1_000);
  deepEqual([...master.member.reign?.followers.keys() ?? []], [C]);
  master.take();
  equal(master.hear(B, following).sent("Telemetry").length, 1);
});

Deno.test("since when a runner serves goes by the master's date, not by its node's", () => {
  const retrying: Event = {
    type: "InstanceRetrying",
    instanceId: instanceId("i"),
    failureError: "OOM",
    notBefore: 0,
  };
  const state = fold([nodeStarted(A), nodeStarted(B), created(instanceOf("i", [B])), retrying]);
  const master = leader({ state }).wait(1_000);
  const epoch: Epoch = { clock: 2, nodeId: A };
  master.hear(B, { type: "Report", epoch, events: [reported("i:0", "RunnerReady", { at: 7 })] });
  const [runner] = master.member.state.runners.values();
  equal(runner?.since, 1_001_000);
  master.wait(2_000);
  equal(master.member.state.instanceRetries.size, 1, "it has not been well for a minute");
  master.wait(15_000).hear(B, { type: "Following", epoch, idx: 1 });
  master.wait(15_000).hear(B, { type: "Following", epoch, idx: 1 });
  master.wait(15_000).hear(B, { type: "Following", epoch, idx: 1 }).wait(15_000);
  equal(master.member.state.instanceRetries.size, 0, "now it has");
});

Deno.test("a generation goes to a node that follows, not to one that has fallen silent", () => {
  const both = [[B, "b"], [C, "c"]] as const;
  const state = fold([
    ...[A, B, C].map((nodeId) => nodeStarted(nodeId)),
    ...both.flatMap(([nodeId, id]) => [
      created(instanceOf(id, [nodeId])),
      reported(`${id}:0`, "RunnerReady"),
    ]),
  ]);
  const master = leader({ state });
  const { epoch } = master.member;
  ok(epoch);
  const following: Message = { type: "Following", epoch, idx: -1 };
  let asked = 0;
  const servedBy = () => {
    const id = commandId(`t${++asked}`);
    master.ask({ type: "TextGeneration", commandId: id, modelId: MODEL, apiNodeId: A });
    return [...master.member.state.tasks.values()].at(-1)?.instanceId;
  };
  equal(servedBy(), "b", "nobody follows: any will do");
  master.hear(C, following);
  deepEqual([servedBy(), servedBy()], ["c", "c"]);
  master.wait(FOLLOWER_LIVE_MS).hear(B, following);
  deepEqual([servedBy(), servedBy()], ["b", "b"]);
});

Deno.test("a master that stood still for a lease gives way to the one that was elected meanwhile", () => {
  for (const pauses of [[LEASE_MS - 1], [HEARTBEAT_MS, LEASE_MS], [LEASE_MS, HEARTBEAT_MS]]) {
    const master = leader();
    const { epoch = FIRST } = master.member;
    for (const from of [B, C]) master.hear(from, { type: "Following", epoch, idx: -1 });
    for (const ms of pauses) master.wait(ms);
    const hasPaused = pauses.includes(LEASE_MS);
    // It was said to the master that they all had then, and has waited to be read.
    if (hasPaused) master.hear(C, { type: "Following", epoch, idx: -1 });
    master.hear(C, heartbeat(SECOND, STARTED));
    equal(master.member.master, hasPaused ? C : A, pauses.join());
    equal(master.member.epoch?.clock, hasPaused ? 2 : 3);
  }
});

Deno.test("a master that stood still, and that nobody has left, has those behind it that say so", () => {
  const master = leader();
  const { epoch = FIRST } = master.member;
  const follows = (from: NodeId) => master.hear(from, { type: "Following", epoch, idx: -1 });
  follows(B);
  follows(C);
  const told = () => master.sent("Heartbeat").at(-1)?.seniority;
  equal(master.wait(HEARTBEAT_MS) && told(), 3);
  equal(master.wait(LEASE_MS) && told(), 1);
  follows(C);
  equal(master.wait(HEARTBEAT_MS) && told(), 1, "that was said before");
  follows(B);
  equal(master.wait(HEARTBEAT_MS) && told(), 2);
});

Deno.test("a node believes no clock that is years of elections ahead of its own", () => {
  const epoch: Epoch = { clock: EPOCH_CLOCK_LEAP_MAX + 2, nodeId: C };
  const head = { epoch, idx: 0 };
  const candidate = new Alone();
  const clock = epoch.clock;
  candidate.drops(C, { type: "Heartbeat", epoch, head, seniority: 9 });
  candidate.drops(C, { type: "Candidacy", clock, seniority: 9, head: { idx: -1 } });
  candidate.drops(C, { type: "Candidacy", clock: 1, seniority: 9, head });
  const state = next(EMPTY_STATE, epoch, { type: "EpochStarted" });
  candidate.drops(C, { type: "HeadState", clock: 1, state: stateToJson(state) });
  equal(candidate.member.election.clock, 0);
  const near = { ...epoch, clock: EPOCH_CLOCK_LEAP_MAX };
  candidate.hear(C, {
    type: "Heartbeat",
    epoch: near,
    head: { epoch: near, idx: 0 },
    seniority: 9,
  });
  equal(candidate.member.master, C);
});

Deno.test("a master keeps account of so many nodes", () => {
  const master = leader();
  const following: Message = { type: "Following", epoch: FIRST, idx: -1 };
  const crowd = Array.from({ length: NODES_MAX }, (_, at) => NodeId.parse(`n${at}`));
  const before = master.member.reign;
  ok(before);
  const followers = new Map(crowd.map((id) => [id, { idx: -1, heardAt: 0 }]));
  const lastSeen = new Map(crowd.map((id) => [id, 0]));
  const { telemetry } = master.member;
  master.member = {
    ...master.member,
    reign: { ...before, followers },
    telemetry: { ...telemetry, lastSeen },
  };
  master.drops(B, following);
  equal(master.member.telemetry.lastSeen.has(B), false);
});

Deno.test("a follower reports what is new at once, and again until the log has it", () => {
  const follower = new Alone().follow(fold([{ type: "EpochStarted" }]));
  const reports = new Map([["node", nodeStarted(B)]]);
  follower.give({ type: "Facts", facts: { ...NO_FACTS, reports } });
  const report = { type: "Report", epoch: FIRST, events: [nodeStarted(B)] };
  deepEqual(follower.sent("Report"), [report]);
  follower.wait(LEASE_MS / 2).hear(A, heartbeat(FIRST, EMPTY_STATE));
  deepEqual(follower.sent("Report"), []);
  deepEqual(follower.wait(REPORT_RETRY_MS - LEASE_MS / 2).sent("Report"), [report]);
});

Deno.test("a forced master says that it is", () => {
  const master = leader({ seniority: FORCED_SENIORITY });
  equal(master.sent("Heartbeat")[0]?.seniority, FORCED_SENIORITY);
});

Deno.test("what happens in one step is told in pages", () => {
  const asked = Array.from(
    { length: EVENTS_PAGE_MAX },
    (_, at) => taskCreated(taskOf(`t${at}`, "i", { apiNodeId: B })),
  );
  const master = leader({ state: next(STARTED, FIRST, created(instanceOf("i")), ...asked) });
  master.take();
  const epoch = { clock: 2, nodeId: A };
  // Its tasks end with the process that kept their prompts.
  master.hear(B, { type: "Report", epoch, events: [nodeStarted(B, 2)] });
  const [first, second, ...more] = master.sent("Events");
  const last = first?.events.at(-1);
  deepEqual([first?.events.length, second?.events.length, more], [EVENTS_PAGE_MAX, 1, []]);
  deepEqual(second?.previous, { epoch: last?.epoch, idx: last?.idx });
});
