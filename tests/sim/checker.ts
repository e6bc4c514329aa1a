import type { Command, CommandReply } from "../../core/commands.ts";
import { type IndexedEvent } from "../../core/events.ts";
import type { NodeId, TaskId } from "../../core/ids.ts";
import { compareEpochs, type Epoch, openSegment } from "../../core/lineage.ts";
import type { Input, Member, Output } from "../../core/member.ts";
import type { Message } from "../../core/protocol.ts";
import { type State, stateToJson } from "../../core/state.ts";
import { isInFlight } from "../../core/task.ts";
import type { Generation } from "./api.ts";
import { EventMarks } from "./event_marks.ts";
import { checkMemory, checkState } from "./invariants.ts";
import { Ledger } from "./ledger.ts";
import type { SimNode } from "./node.ts";
import type { SimRunner } from "./runners.ts";
import type { World } from "./world.ts";

/** A property that does not hold. */
export class Violation extends Error {
  constructor(readonly property: string, readonly detail: string) {
    super(`${property}: ${detail}`);
  }
}

/** The shortest and the longest wait before a retry (D14). */
const RETRY_MS_MIN = 2_000;
const RETRY_MS_MAX = 60_000;

/** How often at most the whole state of a node is checked. */
const STATE_CHECK_MS = 250;

/** Where a node's disk is in the history. */
interface DiskHead {
  idx: number;
  epoch: Epoch | undefined;
}

/** Watches every node, after every step: what must never happen, and what should sometimes. */
export class Checker {
  readonly ledger: Ledger;
  /** Every event of every epoch, by the name of the epoch and its index. */
  readonly #events = new Map<string, Map<number, IndexedEvent>>();
  readonly #heads = new Map<SimNode, DiskHead>();
  readonly #replied = new Set<string>();
  readonly #answered = new Set<string>();
  readonly #servedBy = new Map<TaskId, string>();
  readonly #tasks = new Set<TaskId>();
  readonly #checkedAt = new Map<SimNode, number>();
  readonly #stateSeen = new Map<SimNode, State>();
  readonly #eventMarks: EventMarks;

  constructor(readonly world: World) {
    this.ledger = new Ledger(world);
    this.#eventMarks = new EventMarks(world, this.ledger);
  }

  holds(condition: boolean, property: string, detail: () => string): void {
    if (!condition) throw new Violation(property, detail());
  }

  // ---- What a node does ----------------------------------------------------------------------

  started(node: SimNode, state: State): void {
    this.#heads.set(node, {
      idx: state.lastEventAppliedIdx,
      epoch: openSegment(state.lineage)?.epoch,
    });
  }

  stopped(node: SimNode): void {
    const { marks } = this.world;
    const api = [...(node.api?.pending.values() ?? [])];
    if (api.length > 0) marks.hit("generation: reaped after its node crashed", api.length);
  }

  wiped(node: SimNode): void {
    this.world.marks.hit("fault: node wiped");
    this.ledger.wiped(node);
  }

  stepped(
    node: SimNode,
    { before, input, outputs }: { before: Member; input: Input; outputs: readonly Output[] },
  ): void {
    const after = (node.member as Member).state;
    this.#markStep(node, before, input, outputs);
    if (node.isMaster) this.#retriesWait(node, outputs);
    if (after === before.state) return;
    const isSwitch = outputs.some(({ type }) => type === "Install");
    if (!isSwitch) this.#tasksEndOnce(node, before.state, after);
    const now = this.world.schedule.now;
    if (now - (this.#checkedAt.get(node) ?? -STATE_CHECK_MS) < STATE_CHECK_MS) return;
    this.#checkedAt.set(node, now);
    this.checkNode(node);
  }

  #markStep(node: SimNode, before: Member, input: Input, outputs: readonly Output[]): void {
    const { marks } = this.world;
    if (before.role === "master" && !node.isMaster) marks.hit("master: stepped down");
    const isSwitch = outputs.some(({ type }) => type === "Install");
    const isKept = outputs.some(({ type }) => type === "KeepBranch");
    if (isSwitch && !isKept) marks.hit("branch: nothing to bring");
    if (input.type !== "Message") return;
    const { message } = input;
    if (message.type === "Events") {
      const first = message.events[0]?.idx ?? 0;
      if (first > before.state.lastEventAppliedIdx + 1) marks.hit("sync: events out of order");
    }
    const isDropped = (node.member?.dropped ?? 0) > before.dropped;
    if (isDropped && before.epoch && "epoch" in message && message.epoch) {
      if (compareEpochs(message.epoch, before.epoch) < 0) marks.hit("sync: epoch seen stale");
    }
  }

  /** All that must hold within the state of one node. */
  checkNode(node: SimNode): void {
    if (this.#stateSeen.get(node) === node.state) return;
    this.#stateSeen.set(node, node.state);
    checkState(
      node.state,
      (condition, property, detail) =>
        this.holds(condition, property, () => `${node.nodeId}: ${detail()}`),
    );
  }

  /** A master that tries an instance again says when: never at once, never in hours (D14). */
  #retriesWait(node: SimNode, outputs: readonly Output[]): void {
    for (const output of outputs) {
      for (const { event } of output.type === "Persist" ? output.events : []) {
        if (event.type !== "InstanceRetrying") continue;
        const waitMs = event.notBefore - node.date;
        this.holds(
          waitMs >= RETRY_MS_MIN && waitMs <= RETRY_MS_MAX,
          "a retry waits",
          () => `${node.nodeId} retries ${event.instanceId} in ${waitMs} ms`,
        );
      }
    }
  }

  #tasksEndOnce(node: SimNode, before: State, after: State): void {
    if (before.tasks === after.tasks) return;
    for (const [taskId, task] of before.tasks) {
      const next = after.tasks.get(taskId);
      if (isInFlight(task) || !next) continue;
      this.holds(
        next.taskStatus === task.taskStatus,
        "the end of a task is final",
        () => `${node.nodeId}: ${taskId} was ${task.taskStatus} and is ${next.taskStatus}`,
      );
    }
  }

  persists(node: SimNode, events: readonly IndexedEvent[]): void {
    const head = this.#heads.get(node) as DiskHead;
    for (const indexed of events) {
      const { idx, epoch, event } = indexed;
      const at = `${node.nodeId}: event ${idx} (${event.type}) of epoch ${nameOf(epoch)}`;
      this.holds(
        idx === head.idx + 1,
        "indices have no gaps and no repeats",
        () => `${at} after ${head.idx}`,
      );
      this.holds(
        !head.epoch || compareEpochs(epoch, head.epoch) >= 0,
        "a log never goes back to an older epoch",
        () => `${at} after epoch ${head.epoch && nameOf(head.epoch)}`,
      );
      head.idx = idx;
      head.epoch = epoch;
      this.#register(node, indexed, at);
    }
    const types = new Set(events.map(({ event }) => event.type));
    const isCascade = types.has("MetaInstanceDeleted") && types.has("InstanceDeleted");
    if (isCascade && node.isMaster) this.world.marks.hit("meta: deleted with its instance");
    this.world.trace(() =>
      `${node.nodeId} stores ${
        events.map(({ idx, epoch, event }) => `${idx}@${nameOf(epoch)} ${event.type}`).join(", ")
      }`
    );
  }

  #register(node: SimNode, indexed: IndexedEvent, at: string): void {
    const { idx, epoch, event } = indexed;
    const name = nameOf(epoch);
    let reign = this.#events.get(name);
    if (!reign) this.#events.set(name, reign = new Map());
    const known = reign.get(idx);
    if (known) {
      const same = known.event === event || isEqual(known.event, event);
      return this.holds(same, "one event for each (epoch, index)", () => `${at}: two of them`);
    }
    reign.set(idx, indexed);
    this.holds(
      epoch.nodeId === node.nodeId,
      "one author for each epoch",
      () => `${at} is stored first by another than its master`,
    );
    this.#firstSeen(node, indexed, at);
  }

  /** A master has decided something: seen once, however many nodes store it. */
  #firstSeen(node: SimNode, indexed: IndexedEvent, at: string): void {
    const { event } = indexed;
    this.ledger.happened(node, indexed);
    this.#eventMarks.happened(node, event);
    if (event.type === "InstanceCreated") checkMemory(this.world, node, event.instance);
    if (event.type !== "TaskCreated") return;
    this.holds(!this.#tasks.has(event.task.taskId), "no command is executed twice", () => at);
    this.#tasks.add(event.task.taskId);
  }

  installs(node: SimNode, state: State, epoch: Epoch): void {
    const { world } = this;
    const reign = openSegment(state.lineage)?.epoch;
    world.trace(() =>
      `${node.nodeId} installs idx ${state.lastEventAppliedIdx} of ${nameOf(epoch)}`
    );
    world.marks.hit("sync: snapshot installed");
    const before = this.#heads.get(node);
    const isBack = before?.epoch && reign && compareEpochs(reign, before.epoch) === 0 &&
      state.lastEventAppliedIdx < before.idx;
    this.holds(
      !isBack,
      "a node never goes back within an epoch",
      () => `${node.nodeId} goes from ${before?.idx} to ${state.lastEventAppliedIdx}`,
    );
    this.#heads.set(node, { idx: state.lastEventAppliedIdx, epoch: reign });
    const twin = world.live.find((other) =>
      other !== node && other.state.lastEventAppliedIdx === state.lastEventAppliedIdx &&
      isSame(openSegment(other.state.lineage)?.epoch, reign)
    );
    if (twin) this.#equal(twin, twin.state, state);
  }

  keepsBranch(node: SimNode, branch: State | undefined): void {
    this.world.trace(() => `${node.nodeId} ${branch ? "keeps" : "is done with"} a branch`);
    if (branch) this.world.marks.hit("branch: kept");
  }

  elected(node: SimNode, isMaster: boolean): void {
    const { marks } = this.world;
    if (!isMaster) return;
    marks.hit("master: elected");
    if (this.world.live.some((other) => other !== node && other.isMaster)) {
      marks.hit("master: two at once");
    }
    if ([...node.state.tasks.values()].some(isInFlight)) {
      marks.hit("master: replaced with a generation in flight");
    }
  }

  sends(message: Message): void {
    const { marks } = this.world;
    if (message.type === "Events" && message.acknowledgers.length === 0) {
      marks.hit("sync: tail sent");
    }
    if (message.type === "CommandAnswer" && message.reply.type === "CommandRejected") {
      const isStale = message.reply.error.message.includes("stale epoch");
      if (isStale) marks.hit("command: refused, stale epoch");
    }
    if (message.type === "CommandRequest") marks.hit("command: forwarded to the master");
    if (message.type === "SyncRequest") marks.hit("sync: gap repaired");
  }

  // ---- What clients see ----------------------------------------------------------------------

  asked(node: SimNode, command: Command): void {
    this.ledger.asked(node, command);
    this.world.trace(() => `${node.nodeId} is asked ${JSON.stringify(command).slice(0, 160)}`);
  }

  replied(node: SimNode, reply: CommandReply, command: Command | undefined): void {
    const { marks } = this.world;
    const { commandId } = reply;
    this.world.trace(() => `${node.nodeId} answers ${JSON.stringify(reply).slice(0, 200)}`);
    this.holds(
      !this.#replied.has(commandId),
      "a command is answered once",
      () => `${node.nodeId} answers ${commandId} again`,
    );
    this.#replied.add(commandId);
    this.holds(
      command !== undefined,
      "only what was asked is answered",
      () => `${node.nodeId} answers ${commandId}`,
    );
    if (reply.type === "CommandAccepted") {
      marks.hit("command: accepted");
      const { lastEventAppliedIdx } = node.state;
      this.holds(lastEventAppliedIdx >= 0, "an answer has a state behind it", () => commandId);
    } else {
      const { code } = reply.error;
      marks.hit("command: rejected");
      if (code === "timed_out") marks.hit("command: timed out");
      if (code === "master_changed") marks.hit("command: refused, the master changed");
    }
    if (command) this.ledger.replied(node, command, reply);
  }

  answered(node: SimNode, generation: Generation): void {
    const { marks } = this.world;
    const { answer, taskId } = generation;
    this.holds(!this.#answered.has(taskId), "no generation is answered twice", () => taskId);
    this.#answered.add(taskId);
    if (answer === "complete") marks.hit("generation: complete");
    if (answer === "refused") marks.hit("generation: refused");
    if (answer === "gone") marks.hit("generation: cancelled");
    if (answer !== "error") return;
    const instance = generation.instanceId && node.state.instances.get(generation.instanceId);
    const isGone = !instance ||
      Object.keys(instance.shardAssignments.nodeToRunner)
        .some((id) => !this.world.nodeOf(id as NodeId)?.isUp);
    marks.hit(isGone ? "generation: failed with its node" : "generation: failed with its runner");
  }

  /** A process has generated a token: no other process ever does so for this task. */
  token(taskId: TaskId, { place: { runnerId, incarnation, shard } }: SimRunner): void {
    const name = `${runnerId}#${incarnation}`;
    const before = this.#servedBy.get(taskId);
    if (before === undefined && shard.worldSize > 1) {
      this.world.marks.hit("generation: over several nodes");
    }
    this.holds(
      before === undefined || before === name,
      "one process serves a task",
      () => `${taskId}: ${before} and ${name}`,
    );
    this.#servedBy.set(taskId, name);
  }

  // ---- All nodes together --------------------------------------------------------------------

  /** Nodes with the same head have the same state. */
  compareStates(): void {
    const seen = new Map<string, SimNode>();
    for (const node of this.world.live) {
      const { state } = node;
      const epoch = openSegment(state.lineage)?.epoch;
      const name = `${epoch ? nameOf(epoch) : ""}/${state.lastEventAppliedIdx}`;
      const twin = seen.get(name);
      if (!twin) seen.set(name, node);
      else this.#equal(node, state, twin.state);
    }
  }

  #equal(node: SimNode, a: State, b: State): void {
    this.holds(isEqual(a, b), "equal logs give equal states", () => {
      const [left, right] = [canonical(stateToJson(a)), canonical(stateToJson(b))];
      const at = [...left].findIndex((character, at) => character !== right[at]);
      const around = (text: string) => text.slice(Math.max(0, at - 120), at + 120);
      return `${node.nodeId} at ${a.lastEventAppliedIdx}: …${around(left)}… and …${around(right)}…`;
    });
  }
}

/** Equal to the last value; tables in the same order. Most parts are shared, and quickly so. */
function isEqual(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return false;
  if (a instanceof Map && b instanceof Map) return isEqual([...a], [...b]);
  if (Array.isArray(a) && Array.isArray(b)) {
    return a.length === b.length && a.every((value, at) => isEqual(value, b[at]));
  }
  const [left, right] = [a, b] as Record<string, unknown>[];
  const keys = Object.keys(left ?? {});
  return keys.length === Object.keys(right ?? {}).length &&
    keys.every((key) => isEqual(left?.[key], right?.[key]));
}

/** As JSON, whatever order the fields of objects have; tables keep theirs. */
function canonical(value: unknown): string {
  return JSON.stringify(value, (_, part) => {
    if (part === null || typeof part !== "object" || Array.isArray(part)) return part;
    return Object.fromEntries(Object.entries(part).sort(([a], [b]) => (a < b ? -1 : 1)));
  });
}

/** An epoch as `3.n1`. */
export function nameOf({ clock, nodeId }: Epoch): string {
  return `${clock}.${nodeId}`;
}

function isSame(a: Epoch | undefined, b: Epoch | undefined): boolean {
  return a && b ? compareEpochs(a, b) === 0 : a === b;
}
