/** Whole clusters of members in virtual time, on a network that is well and counts. */
import type { Command, CommandReply } from "../../core/commands.ts";
import { edgeSubject, type LocalFacts, NO_FACTS } from "../../core/facts.ts";
import type { CommandId, NodeId } from "../../core/ids.ts";
import type { Event } from "../../core/events.ts";
import {
  type Input,
  type Member,
  type Output,
  startMember,
  step,
  wakeAt,
} from "../../core/member.ts";
import { encodeMessage, type Message } from "../../core/protocol.ts";
import type { State } from "../../core/state.ts";
import { linkKey } from "../../core/telemetry.ts";
import { GIB, MIB } from "../../core/units.ts";
import { UUID_CHARS } from "./busy_cluster.ts";
import { Calendar } from "./calendar.ts";

/** How long a message takes. */
const LATENCY_MS = 2;

/** How often a node measures how it does. */
const MEASURE_MS = 1_000;

/** By how much what an idle machine measures goes up and down. */
const IDLE = { memoryBytes: 16 * MIB, cpuUsage: 0.04, rttMs: 0.15 } as const;

/** The least round trip. */
const RTT_MS = 0.4;

/** Members whose connections to a dead process are closed learn of it one after the other. */
const DEATH_NOTICED_MS = 100;

/** What went over the network so far. */
export interface Traffic {
  messages: number;
  bytes: number;
  /** The largest message to all: a transport has a limit for it. */
  largestBytes: number;
  /** Bytes by the type of message: once for each receiver. */
  readonly byType: Map<Message["type"], number>;
  readonly sentBytes: Float64Array;
  readonly receivedBytes: Float64Array;
}

const encoder = new TextEncoder();

/** What a shell tells its member of the machine. */
type LatestInput = Omit<Extract<Input, { type: "Telemetry" }>, "type">;

/** Called with the answer to a command. */
type Answered = (reply: CommandReply) => void;

/** A machine: its member, and what its shell would keep. */
export interface Machine {
  readonly at: number;
  readonly nodeId: NodeId;
  member: Member;
  facts: LocalFacts;
  isUp: boolean;
  tickAt: number;
  ids: number;
  readonly asked: Map<CommandId, Answered>;
}

/**
 * Members on a network, in virtual time; all of them have this state on their disks. The first leads
 * from the start: to compute one election more among a thousand takes minutes.
 */
export class MemberCluster {
  readonly machines: readonly Machine[];
  readonly #calendar = new Calendar();
  readonly #byId: ReadonlyMap<NodeId, Machine>;
  #traffic: Traffic;

  constructor(state: State) {
    const ids = [...state.nodes.keys()];
    this.#traffic = noTraffic(ids.length);
    const context = { now: 0, uptime: 0, freshId: "start" };
    this.machines = ids.map((nodeId, at) => ({
      ...{ at, nodeId, facts: factsOf(state, nodeId), isUp: true, tickAt: Infinity, ids: 0 },
      asked: new Map(),
      member: startMember({ nodeId, state, isAlone: at === 0 }, context).member,
    }));
    this.#byId = new Map(this.machines.map((machine) => [machine.nodeId, machine]));
    for (const machine of this.machines) this.#start(machine);
  }

  get now(): number {
    return this.#calendar.now;
  }

  get live(): readonly Machine[] {
    return this.machines.filter(({ isUp }) => isUp);
  }

  /** The master that all live members obey, and whose log all of them have. */
  get master(): Machine | undefined {
    const { live } = this;
    const master = live.find(({ member }) => member.role === "master");
    const idx = master?.member.state.lastEventAppliedIdx;
    const isObeyed = live.every(({ member }) =>
      member.master === master?.nodeId && member.state.lastEventAppliedIdx === idx
    );
    return isObeyed ? master : undefined;
  }

  /** Lets time go by. */
  pass(durationMs: number): void {
    this.#calendar.pass(durationMs);
  }

  /** Lets time go by until there is one master; how long that took. */
  settle(limitMs: number): number {
    const start = this.now;
    while (!this.master) {
      if (this.now - start >= limitMs) throw new Error(`no master within ${limitMs} ms`);
      this.pass(10);
    }
    return this.now - start;
  }

  /** All that was said since the last call. */
  takeTraffic(): Traffic {
    const traffic = this.#traffic;
    this.#traffic = noTraffic(this.machines.length);
    return traffic;
  }

  /** Calls `action` later. */
  after(delayMs: number, action: () => void): void {
    this.#calendar.after(delayMs, action);
  }

  /** The process of a machine dies. */
  kill(dead: Machine): void {
    dead.isUp = false;
    for (const machine of this.live) {
      const noticedMs = 1 + (machine.at * 37) % DEATH_NOTICED_MS;
      const input: Input = { type: "PeerDisconnected", peer: dead.nodeId };
      this.after(noticedMs, () => this.take(machine, input));
    }
  }

  /** Asks a machine's member; `answered` gets the reply. */
  submit(machine: Machine, command: Command, answered: Answered): void {
    machine.asked.set(command.commandId, answered);
    this.take(machine, { type: "Command", command });
  }

  /** Changes what a machine has to report. */
  report(machine: Machine, change: (facts: LocalFacts) => LocalFacts): void {
    machine.facts = change(machine.facts);
    this.take(machine, { type: "Facts", facts: machine.facts });
  }

  /** One step of a member, and what comes of it. */
  take(machine: Machine, input: Input): void {
    if (!machine.isUp) return;
    const freshId = `${machine.at}.${machine.ids++}.`.padEnd(UUID_CHARS, ".");
    const { now } = this;
    const stepped = step(machine.member, input, { now, uptime: now, freshId });
    machine.member = stepped.member;
    for (const output of stepped.outputs) this.#perform(machine, output);
    this.#sleep(machine);
  }

  #start(machine: Machine): void {
    this.take(machine, { type: "Facts", facts: machine.facts });
    for (const { nodeId } of this.machines) {
      if (nodeId !== machine.nodeId) this.take(machine, { type: "PeerConnected", peer: nodeId });
    }
    this.after((machine.at * 389) % MEASURE_MS, () => this.#measure(machine));
  }

  #measure(machine: Machine): void {
    if (!machine.isUp) return;
    this.take(machine, { type: "Telemetry", ...measured(machine.member, this.now + machine.at) });
    this.after(MEASURE_MS, () => this.#measure(machine));
  }

  #sleep(machine: Machine): void {
    const at = Math.max(wakeAt(machine.member) ?? Infinity, this.now + 1);
    if (at >= machine.tickAt) return;
    machine.tickAt = at;
    this.after(at - this.now, () => {
      if (machine.tickAt !== at) return;
      machine.tickAt = Infinity;
      this.take(machine, { type: "Tick" });
    });
  }

  #perform(machine: Machine, output: Output): void {
    switch (output.type) {
      case "Send": {
        const to = this.#byId.get(output.to);
        return this.#say(machine, output.message, { to: to ? [to] : [], isToAll: false });
      }
      case "Broadcast": {
        const to = this.live.filter((one) => one !== machine);
        return this.#say(machine, output.message, { to, isToAll: true });
      }
      case "Reply": {
        const { reply } = output;
        machine.asked.get(reply.commandId)?.(reply);
        machine.asked.delete(reply.commandId);
        return;
      }
      // Disks are fast and well here, and no wish asks for a card.
      default:
    }
  }

  /** One message to one node or many: it is sent once, and received by each. */
  #say(
    from: Machine,
    message: Message,
    { to, isToAll }: { readonly to: readonly Machine[]; readonly isToAll: boolean },
  ): void {
    const { byType, sentBytes, receivedBytes } = this.#traffic;
    const bytes = encoder.encode(encodeMessage(message)).length;
    sentBytes[from.at] = (sentBytes[from.at] ?? 0) + bytes;
    this.#traffic.messages += to.length;
    this.#traffic.bytes += bytes * to.length;
    byType.set(message.type, (byType.get(message.type) ?? 0) + bytes * to.length);
    if (isToAll) this.#traffic.largestBytes = Math.max(this.#traffic.largestBytes, bytes);
    const input: Input = { type: "Message", from: from.nodeId, message };
    for (const machine of to) {
      receivedBytes[machine.at] = (receivedBytes[machine.at] ?? 0) + bytes;
      this.after(LATENCY_MS, () => this.take(machine, input));
    }
  }
}

function noTraffic(count: number): Traffic {
  const [sentBytes, receivedBytes] = [new Float64Array(count), new Float64Array(count)];
  return { messages: 0, bytes: 0, largestBytes: 0, byType: new Map(), sentBytes, receivedBytes };
}

/** What a node says of itself that has been running for long: all of it is known. */
function factsOf(state: State, nodeId: NodeId): LocalFacts {
  const node = state.nodes.get(nodeId);
  const reports = new Map<string, Event>();
  if (node) {
    const { incarnation, info } = node;
    reports.set("node", { type: "NodeStarted", nodeId, incarnation, info });
  }
  for (const [sink, edges] of state.connections.get(nodeId) ?? []) {
    for (const edge of edges) {
      const connection = { source: nodeId, sink, edge };
      reports.set(edgeSubject(connection), { type: "TopologyEdgeCreated", connection });
    }
  }
  for (const { shardAssignments: { nodeToRunner } } of state.instances.values()) {
    const runnerId = nodeToRunner[nodeId];
    const runner = runnerId && state.runners.get(runnerId);
    if (!runner) continue;
    const { status, incarnation, since: at } = runner;
    reports.set(`runner:${runnerId}`, {
      ...{ type: "RunnerStatusUpdated", runnerId, status, incarnation, at },
    });
  }
  return { ...NO_FACTS, reports };
}

/** What an idle machine measures: a little different each time. */
function measured({ nodeId, state }: Member, at: number): LatestInput {
  const ramAvailableBytes = Math.round(40 * GIB + noise(at) * IDLE.memoryBytes);
  const keys = [...state.connections.get(nodeId) ?? []]
    .flatMap(([sink, edges]) => edges.map((edge) => linkKey(nodeId, sink, edge)));
  return {
    memory: { ramTotalBytes: 64 * GIB, ramAvailableBytes },
    disk: { totalBytes: 1_024 * GIB, availableBytes: 512 * GIB },
    system: { cpuUsage: Number((0.01 + noise(at + 1) * IDLE.cpuUsage).toFixed(3)) },
    links: new Map(keys.map((key, link) => {
      const latencyMs = Number((RTT_MS + noise(at + link + 2) * IDLE.rttMs).toFixed(2));
      return [key, { latencyMs }];
    })),
  };
}

/** A number from 0 to 1 that looks like noise. */
function noise(at: number): number {
  return ((at * 7_919) % 10_007) / 10_007;
}
