import assert from "node:assert/strict";
import { apply } from "../../core/apply.ts";
import type { Command, CommandReply } from "../../core/commands.ts";
import { type IndexedEvent, isDurable } from "../../core/events.ts";
import { NodeId } from "../../core/ids.ts";
import { compareEpochs, type Epoch } from "../../core/lineage.ts";
import { headOf } from "../../core/log_tail.ts";
import {
  type Input,
  type Member,
  type Output,
  startMember,
  step,
  wakeAt,
} from "../../core/member.ts";
import type { MemberOptions } from "../../core/member.ts";
import type { Message } from "../../core/protocol.ts";
import { EMPTY_STATE, encodeState, type State } from "../../core/state.ts";

/** How the wire treats a message: the delays of its copies, none when it is lost. */
export type Wire = (from: NodeId, to: NodeId, message: Message) => readonly number[];

/** What a node's disk holds. */
interface Disk {
  readonly state: State;
  /** What of it a loss of power leaves: up to the last durable event. */
  readonly synced: State;
  readonly epoch: Epoch | undefined;
  readonly branch: State | undefined;
}

interface Delivery {
  readonly at: number;
  readonly order: number;
  readonly from: NodeId;
  readonly to: NodeId;
  readonly message: Message;
}

/** Steps without any time passing: more of them are a loop. */
const STEPS_AT_ONCE_MAX = 10_000;

const EMPTY_DISK: Disk = {
  state: EMPTY_STATE,
  synced: EMPTY_STATE,
  epoch: undefined,
  branch: undefined,
};

/** Members on a wire of memory, in a time of their own; it checks safety as it goes. */
export class Members {
  readonly nodes = new Map<NodeId, Member>();
  readonly disks = new Map<NodeId, Disk>();
  readonly replies: { nodeId: NodeId; reply: CommandReply; at: number }[] = [];
  readonly transcript: string[] = [];
  /** Date minus uptime. */
  dateOffset = 1_000_000;
  uptime = 0;
  wire: Wire = () => [1];
  /** Whether what is said to all gets lost on its way, and what is said to one does not. */
  isBroadcastLost = false;
  /** What the transcript tells beside outputs that change something. */
  isTold: (message: Message) => boolean = () => false;
  readonly #wakes = new Map<NodeId, number | undefined>();
  #deliveries: Delivery[] = [];
  readonly #authors = new Map<string, string>();
  readonly #states = new Map<string, string>();
  #order = 0;
  #ids = 0;

  /** Starts a node from its disk. */
  start(nodeId: NodeId, options: Partial<MemberOptions> = {}): void {
    const disk = this.disks.get(nodeId) ?? EMPTY_DISK;
    this.tell(nodeId, "starts");
    this.#took(
      nodeId,
      startMember({ nodeId, isAlone: false, ...disk, ...options }, this.#context()),
    );
    for (const peer of this.nodes.keys()) {
      if (peer === nodeId) continue;
      this.give(nodeId, { type: "PeerConnected", peer });
      this.give(peer, { type: "PeerConnected", peer: nodeId });
    }
  }

  /** A node loses its power: what was not synced is lost. Nobody notices. */
  cutPower(nodeId: NodeId): void {
    this.kill(nodeId, false);
    const disk = this.disks.get(nodeId);
    if (disk) this.disks.set(nodeId, { ...disk, state: disk.synced });
  }

  /** A node dies; `isNoticed`: its connections break, as those of a killed process do. */
  kill(nodeId: NodeId, isNoticed = true): void {
    this.tell(nodeId, "dies");
    this.nodes.delete(nodeId);
    this.#wakes.delete(nodeId);
    this.#deliveries = this.#deliveries.filter(({ to }) => to !== nodeId);
    for (const peer of this.nodes.keys()) {
      if (isNoticed) this.give(peer, { type: "PeerDisconnected", peer: nodeId });
    }
  }

  /** Gives a node an input now. */
  give(nodeId: NodeId, input: Input): void {
    const member = this.get(nodeId);
    this.#took(nodeId, step(member, input, this.#context()));
  }

  /** Asks a command at a node. */
  ask(nodeId: NodeId, command: Command): void {
    this.tell(nodeId, `is asked ${command.type} ${command.commandId}`);
    this.give(nodeId, { type: "Command", command });
  }

  get(nodeId: NodeId): Member {
    const member = this.nodes.get(nodeId);
    assert(member, `${nodeId} runs`);
    return member;
  }

  /** Lets time pass. */
  run(ms: number): void {
    const end = this.uptime + ms;
    let [steps, before] = [0, this.uptime];
    for (;;) {
      steps = this.uptime === before ? steps + 1 : 0;
      before = this.uptime;
      assert(steps < STEPS_AT_ONCE_MAX, `time goes on\n${this.standing()}`);
      const next = this.#deliveries.reduce<Delivery | undefined>(
        (a, b) => (!a || b.at < a.at || (b.at === a.at && b.order < a.order) ? b : a),
        undefined,
      );
      const [wakeId, wake] = [...this.#wakes].reduce(
        (a, b) => ((b[1] ?? Infinity) < (a[1] ?? Infinity) ? b : a),
        [NodeId.parse("nobody"), undefined] as [NodeId, number | undefined],
      );
      const at = Math.min(next?.at ?? Infinity, wake ?? Infinity);
      if (at > end) break;
      this.uptime = Math.max(this.uptime, at);
      if (next && next.at === at) {
        this.#deliveries = this.#deliveries.filter((one) => one !== next);
        const { from, to, message } = next;
        if (this.nodes.has(to)) this.give(to, { type: "Message", from, message });
      } else this.give(wakeId, { type: "Tick" });
    }
    this.uptime = end;
  }

  /** One line of the transcript. */
  tell(nodeId: NodeId, what: string): void {
    this.transcript.push(`${String(this.uptime).padStart(6)} ${nodeId} ${what}`);
  }

  /** The one node that leads, with every other following it and every state equal. */
  agreed(): Member {
    const members = [...this.nodes.values()];
    const [master, ...others] = members.filter(({ role }) => role === "master");
    assert(master && others.length === 0, `one master\n${this.standing()}`);
    for (const member of members) {
      assert.equal(member.master, master.nodeId, this.standing());
      assert.deepEqual(headOf(member.state), headOf(master.state), this.standing());
      assert.equal(encodeState(member.state), encodeState(master.state));
    }
    return master;
  }

  /** Each node in a line. */
  standing(): string {
    return [...this.nodes.values()].map(({ nodeId, role, epoch, master, state }) =>
      `${nodeId}: ${role} of ${master}, epoch ${epoch?.clock}, head ${headName(state)}`
    ).join("\n");
  }

  #context() {
    const { uptime } = this;
    return { uptime, now: uptime + this.dateOffset, freshId: `fresh-${++this.#ids}` };
  }

  #took(nodeId: NodeId, { member, outputs }: { member: Member; outputs: readonly Output[] }): void {
    this.nodes.set(nodeId, member);
    this.#wakes.set(nodeId, wakeAt(member));
    for (const output of outputs) this.#perform(nodeId, output);
    const { epoch, idx } = headOf(member.state);
    if (!epoch) return;
    const key = `${epoch.clock}/${epoch.nodeId}/${idx}`;
    const text = this.#states.get(key);
    const now = encodeState(member.state);
    assert(text === undefined || text === now, `equal heads mean equal states: ${key}`);
    this.#states.set(key, now);
  }

  #perform(nodeId: NodeId, output: Output): void {
    const disk = this.disks.get(nodeId) ?? EMPTY_DISK;
    switch (output.type) {
      case "Send":
        return this.#post(nodeId, output.to, output.message);
      case "Broadcast":
        if (this.isBroadcastLost) return;
        for (const to of this.nodes.keys()) {
          if (to !== nodeId) this.#post(nodeId, to, output.message);
        }
        return;
      case "Persist":
        return this.#persist(nodeId, disk, output.events);
      case "Install":
        this.tell(nodeId, `installs ${headName(output.state)}`);
        this.disks.set(nodeId, {
          ...disk,
          state: output.state,
          synced: output.state,
          epoch: output.epoch,
        });
        return;
      case "KeepBranch":
        this.tell(
          nodeId,
          output.branch ? `keeps the branch ${headName(output.branch)}` : "has merged its branch",
        );
        this.disks.set(nodeId, { ...disk, branch: output.branch });
        return;
      case "Reply":
        this.tell(nodeId, `replies ${replyName(output.reply)}`);
        this.replies.push({ nodeId, reply: output.reply, at: this.uptime });
        return;
      case "LookUpCard":
        return this.tell(nodeId, `looks up ${output.modelId}`);
      case "Elected": {
        const { clock, nodeId: master } = output.epoch;
        return this.tell(nodeId, output.isMaster ? `leads ${clock}` : `follows ${master} ${clock}`);
      }
    }
  }

  #persist(nodeId: NodeId, disk: Disk, events: readonly IndexedEvent[]): void {
    for (const { idx, epoch, event } of events) {
      const key = `${epoch.clock}/${epoch.nodeId}/${idx}`;
      const text = JSON.stringify(event);
      assert.equal(this.#authors.get(key) ?? text, text, `one author of ${key}`);
      this.#authors.set(key, text);
    }
    const epoch = events.at(-1)?.epoch;
    assert(epoch && (!disk.epoch || compareEpochs(epoch, disk.epoch) >= 0), "epochs only rise");
    const state = events.reduce(apply, disk.state);
    const synced = events.some(({ event }) => isDurable(event)) ? state : disk.synced;
    this.disks.set(nodeId, { ...disk, epoch, state, synced });
    this.tell(
      nodeId,
      `stores ${events.map(({ idx, event }) => `${idx} ${event.type}`).join(", ")}`,
    );
  }

  #post(from: NodeId, to: NodeId, message: Message): void {
    if (this.isTold(message)) this.tell(from, `-> ${to} ${message.type}`);
    for (const delay of this.wire(from, to, message)) {
      this.#deliveries.push({ at: this.uptime + delay, order: ++this.#order, from, to, message });
    }
  }
}

function headName(state: State): string {
  const { epoch, idx } = headOf(state);
  return `${epoch ? `${epoch.clock}/${epoch.nodeId}` : "-"}:${idx}`;
}

function replyName(reply: CommandReply): string {
  return reply.type === "CommandAccepted"
    ? `${reply.commandId} accepted at ${reply.idx}`
    : `${reply.commandId} rejected: ${reply.error.code}`;
}
