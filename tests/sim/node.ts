import type { Command, CommandReply } from "../../core/commands.ts";
import type { Event } from "../../core/events.ts";
import { NO_FACTS } from "../../core/facts.ts";
import type { CommandId, ModelId, NodeId, TaskId } from "../../core/ids.ts";
import {
  hasLeft,
  type Input,
  type Member,
  type Output,
  startMember,
  step,
  wakeAt,
} from "../../core/member.ts";
import type { GatheredInfo } from "../../core/node_info.ts";
import type { Message } from "../../core/protocol.ts";
import { EMPTY_STATE, type State } from "../../core/state.ts";
import { type Generation, SimApi } from "./api.ts";
import { Disk } from "./disk.ts";
import { cablesOf, infoOf, isOfMachine, type MachineFacts, multiaddrOf } from "./machine.ts";
import type { Endpoint } from "./network.ts";
import type { SimRunner } from "./runners.ts";
import { SimWorker } from "./worker.ts";
import type { World } from "./world.ts";

/** The date at which all simulations begin: 2026-01-01. */
const DATE_0 = 1_767_225_600_000;

/** How often a node measures its memory. */
const TELEMETRY_MS = 1_000;

/** How long a node that stops waits for the others to hear of it, and how often it looks. */
const LEAVE_MS = 1_000;
const LEAVE_LOOK_MS = 20;

/** A command that waits for its answer. */
interface Asked {
  readonly command: Command;
  readonly then: (reply: CommandReply) => void;
  readonly at: number;
}

/** The thin shell of one node: clock, disk and wire around a `Member`, with worker and API. */
export class SimNode implements Endpoint {
  disk = new Disk();
  member: Member | undefined;
  worker: SimWorker | undefined;
  api: SimApi | undefined;
  /** The process, counted over all restarts of the machine. */
  life = 0;
  /** How wrong the machine's clock is. */
  skewMs = 0;
  diskDelayMs = 0;
  isDiskFull = false;
  /** Outputs after which the process dies, when it is to die between two. */
  crashIn: number | undefined;
  readonly asked = new Map<CommandId, Asked>();
  readonly #edges = new Map<string, Event>();
  #inbox: Input[] = [];
  #outputs: Output[] = [];
  #isPumping = false;
  #blockedUntil = 0;
  #tickAt = Infinity;
  #ids = 0;
  #isToldLater = false;
  /** No two machines have been up for equally long. */
  #uptimeAt0: number;

  constructor(
    readonly world: World,
    readonly machine: number,
    public nodeId: NodeId,
    readonly facts: MachineFacts,
  ) {
    this.#uptimeAt0 = world.random.below(10_000_000);
  }

  get isUp(): boolean {
    return this.member !== undefined;
  }

  get state(): State {
    return this.member?.state ?? EMPTY_STATE;
  }

  get isMaster(): boolean {
    return this.member?.role === "master";
  }

  get date(): number {
    return DATE_0 + this.world.schedule.now + this.skewMs;
  }

  newId(): string {
    return `${this.nodeId}.${this.life}.${this.#ids++}`;
  }

  /** Does something if the process still lives then. */
  later(delayMs: number, action: () => void): void {
    const { life } = this;
    this.world.schedule.after(delayMs, () => this.isUp && this.life === life && action());
  }

  start(isAlone: boolean): void {
    this.life++;
    this.disk.incarnation++;
    const stored = this.disk.load();
    if (stored.branch) this.world.marks.hit("branch: kept over a restart");
    const { world, nodeId } = this;
    world.trace(() => `${nodeId} starts at idx ${stored.state.lastEventAppliedIdx}`);
    this.#inbox = [];
    this.#outputs = [];
    this.#blockedUntil = 0;
    this.#tickAt = Infinity;
    this.#edges.clear();
    const { state, epoch, branch } = stored;
    const started = startMember({
      nodeId,
      state,
      isAlone,
      ...(epoch ? { epoch } : {}),
      ...(branch ? { branch } : {}),
    }, this.#context());
    this.member = started.member;
    this.worker = new SimWorker(this.#workerHost());
    this.api = new SimApi(this.#apiHost());
    world.checker.started(this, state);
    this.#outputs.push(...started.outputs);
    world.network.started(this.machine);
    this.tell();
    this.#measure();
    this.#pump();
    this.worker.changed();
  }

  /** The process dies; `power`: all of the machine does. */
  kill(power: boolean): void {
    if (!this.isUp) return;
    const { world } = this;
    if (power) this.#uptimeAt0 = -world.schedule.now;
    world.trace(() => `${this.nodeId} ${power ? "loses power" : "is killed"}`);
    world.marks.hit(power ? "fault: node lost power" : "fault: node killed");
    this.worker?.kill();
    world.checker.stopped(this);
    this.member = undefined;
    this.crashIn = undefined;
    this.asked.clear();
    if (power && this.disk.losePower(world.random.below(this.disk.unsynced + 1)) > 0) {
      world.marks.hit("fault: unsynced events lost");
    }
    world.network.stopped(this.machine);
  }

  /** The process is asked to end: it tells the others first, but not for long. */
  leave(then: () => void): void {
    if (!this.isUp || this.member?.isLeaving) return;
    const { world: { schedule, marks } } = this;
    marks.hit("fault: node stopped");
    this.input({ type: "Leave" });
    const end = schedule.now + LEAVE_MS;
    const look = () => {
      const isOver = this.member && hasLeft(this.member, this.#context().uptime);
      if (isOver || schedule.now >= end) then();
      else this.later(LEAVE_LOOK_MS, look);
    };
    this.later(LEAVE_LOOK_MS, look);
  }

  /** The disk is replaced: whoever starts here next is a new node. */
  wipe(nodeId: NodeId): void {
    this.world.checker.wiped(this);
    this.disk = new Disk();
    this.nodeId = nodeId;
  }

  peerConnected(peer: number): void {
    const { world } = this;
    const { nodeId } = world.nodes[peer] as SimNode;
    this.input({ type: "PeerConnected", peer: nodeId });
    this.later(100 + world.random.below(900), () => {
      if (!world.network.isConnected(this.machine, peer)) return;
      const { life } = world.nodes[peer] as SimNode;
      const edge = { type: "SocketConnection" as const, sinkMultiaddr: multiaddrOf(peer, life) };
      const connection = { source: this.nodeId, sink: nodeId, edge };
      const subject = `edge:${nodeId}:${edge.sinkMultiaddr}`;
      this.#edges.set(subject, { type: "TopologyEdgeCreated", connection });
      this.tell();
    });
  }

  peerDisconnected(peer: number): void {
    const { nodeId } = this.world.nodes[peer] as SimNode;
    for (const [subject, event] of this.#edges) {
      const isTo = event.type === "TopologyEdgeCreated" &&
        event.connection.edge.type === "SocketConnection" &&
        isOfMachine(event.connection.edge.sinkMultiaddr, peer);
      if (isTo) this.#edges.delete(subject);
    }
    this.input({ type: "PeerDisconnected", peer: nodeId });
    this.tell();
  }

  /** A client asks this node. */
  submit(command: Command, then: (reply: CommandReply) => void): void {
    this.asked.set(command.commandId, { command, then, at: this.world.schedule.now });
    this.world.checker.asked(this, command);
    this.input({ type: "Command", command });
  }

  /** All that this node has to report now. */
  tell(): void {
    if (this.#isToldLater) return;
    this.#isToldLater = true;
    const { life } = this;
    this.world.schedule.after(0, () => {
      this.#isToldLater = false;
      if (!this.isUp || this.life !== life) return;
      const { nodeId } = this;
      const node: Event = {
        type: "NodeStarted",
        nodeId,
        incarnation: this.disk.incarnation,
        info: infoOf(nodeId, this.world.isCabled),
      };
      const reports = new Map([
        ["node", node],
        ...this.#gathered(),
        ...this.#edges,
        ...(this.worker?.reports ?? []),
      ]);
      const followedTasks = this.api?.followedTasks ?? new Set();
      this.input({ type: "Facts", facts: { ...NO_FACTS, reports, followedTasks } });
    });
  }

  /** What it has found out about its network. */
  #gathered(): [string, Event][] {
    const { nodeId, machine, world, disk: { incarnation } } = this;
    const ipAddress = `10.0.0.${machine + 1}`;
    const infos: GatheredInfo[] = [
      {
        type: "NodeNetworkInterfaces",
        interfaces: [{ name: "en0", ipAddress, interfaceType: "ethernet" }],
      },
      ...(world.isCabled ? cablesOf(machine, world.nodes.length) : []),
    ];
    return infos.map((info) => [
      `info:${info.type}`,
      { type: "NodeGatheredInfo", nodeId, incarnation, info },
    ]);
  }

  input(input: Input): void {
    if (!this.isUp) return;
    this.#inbox.push(input);
    this.#pump();
  }

  receive(from: NodeId, message: Message): void {
    this.input({ type: "Message", from, message });
  }

  /** One thing after the other: outputs of a step first, then the next input. */
  #pump(): void {
    const { schedule } = this.world;
    if (this.#isPumping) return;
    this.#isPumping = true;
    const { life } = this;
    while (this.isUp && this.life === life && schedule.now >= this.#blockedUntil) {
      const output = this.#outputs.shift();
      if (output) {
        this.#perform(output);
        continue;
      }
      const input = this.#inbox.shift();
      if (!input) break;
      this.#step(input);
    }
    this.#isPumping = false;
    if (!this.isUp) return;
    if (schedule.now < this.#blockedUntil) {
      schedule.at(this.#blockedUntil, () => this.life === life && this.#pump());
    }
    this.#schedule();
  }

  #schedule(): void {
    const { schedule } = this.world;
    const at = this.member && wakeAt(this.member);
    if (at === undefined) return;
    const due = Math.max(at - this.#uptimeAt0, schedule.now + 1);
    if (due >= this.#tickAt) return;
    this.#tickAt = due;
    const { life } = this;
    schedule.at(due, () => {
      if (this.life !== life || this.#tickAt !== due) return;
      this.#tickAt = Infinity;
      this.input({ type: "Tick" });
    });
  }

  #context() {
    const { now } = this.world.schedule;
    const uptime = now + this.#uptimeAt0;
    return { now: Math.max(0, this.date), uptime, freshId: this.newId() };
  }

  #step(input: Input): void {
    const before = this.member as Member;
    const { member, outputs } = step(before, input, this.#context());
    this.member = member;
    this.#outputs.push(...outputs);
    this.world.steps++;
    this.world.checker.stepped(this, { before, input, outputs });
    if (member.state === before.state && member.branch === before.branch) return;
    this.later(0, () => this.api?.stateChanged());
    this.worker?.changed();
  }

  #perform(output: Output): void {
    if (this.crashIn !== undefined && this.crashIn-- === 0) {
      this.world.marks.hit("fault: crash between two outputs");
      return this.world.crash(this, false);
    }
    const { world, nodeId } = this;
    switch (output.type) {
      case "Send":
        return world.send(this, output.to, output.message);
      case "Broadcast":
        return world.broadcast(this, output.message);
      case "Persist":
        return this.#write(() => {
          world.checker.persists(this, output.events);
          this.disk.persist(output.events);
        });
      case "Install":
        return this.#write(() => {
          world.checker.installs(this, output.state, output.epoch);
          this.disk.install(output.state, output.epoch);
        });
      case "KeepBranch":
        return this.#write(() => {
          world.checker.keepsBranch(this, output.branch);
          this.disk.keepBranch(output.branch);
        });
      case "Reply":
        return this.#reply(output.reply);
      case "LookUpCard":
        return this.#lookUp(output.modelId);
      case "Elected":
        world.trace(() =>
          `${nodeId} ${output.isMaster ? "leads" : "follows"} ${output.epoch.clock}`
        );
        return world.checker.elected(this, output.isMaster);
      case "GatherEnded":
        return; // No runner of the simulation has a side channel.
      default:
        return output satisfies never;
    }
  }

  #write(write: () => void): void {
    const { world } = this;
    if (this.isDiskFull) {
      world.marks.hit("fault: disk full");
      return world.crash(this, false);
    }
    write();
    if (this.diskDelayMs === 0) return;
    world.marks.hit("fault: disk slow");
    this.#blockedUntil = world.schedule.now + 1 + world.random.below(this.diskDelayMs);
  }

  #reply(reply: CommandReply): void {
    const asked = this.asked.get(reply.commandId);
    this.world.checker.replied(this, reply, asked?.command);
    if (!asked) return;
    this.asked.delete(reply.commandId);
    asked.then(reply);
  }

  #lookUp(modelId: ModelId): void {
    const { delayMs, lookup } = this.world.lookUp(modelId);
    this.later(delayMs, () => this.input({ type: "CardLookup", modelId, lookup }));
  }

  #measure(): void {
    const { ramTotalBytes, ramBaseBytes, links } = this.facts;
    const used = ramBaseBytes + (this.worker?.loadedBytes ?? 0);
    const ramAvailableBytes = Math.max(0, ramTotalBytes - used);
    const loadedRunners = this.worker?.loadedRunners ?? [];
    const memory = { ramTotalBytes, ramAvailableBytes, loadedRunners };
    this.input({ type: "Telemetry", memory, links });
    this.later(TELEMETRY_MS, () => this.#measure());
  }

  #workerHost() {
    const { world, machine, life } = this;
    // deno-lint-ignore no-this-alias
    const node = this;
    return {
      nodeId: this.nodeId,
      machine,
      world,
      get state() {
        return node.state;
      },
      get branch() {
        return node.member?.branch;
      },
      get date() {
        return node.date;
      },
      nextIncarnation: () => ++this.disk.runnerIncarnation,
      tell: () => this.tell(),
      downloadFails: (modelId: ModelId) => world.downloadFails(modelId),
      later: (delayMs: number, action: () => void) => {
        world.schedule.after(delayMs, () => this.isUp && this.life === life && action());
      },
      openPrompt: (taskId: TaskId, api: NodeId, then: (tokens?: number) => void) =>
        world.openPrompt(this, { taskId, api, then }),
      token: (runner: SimRunner, taskId: TaskId, isLast: boolean) =>
        world.token(this, { runner, taskId, isLast }),
    };
  }

  #apiHost() {
    const { world } = this;
    // deno-lint-ignore no-this-alias
    const node = this;
    return {
      nodeId: this.nodeId,
      get state() {
        return node.state;
      },
      newId: () => this.newId(),
      submit: (command: Command, then: (reply: CommandReply) => void) => this.submit(command, then),
      tell: () => this.tell(),
      later: (delayMs: number, action: () => void) => this.later(delayMs, action),
      answered: (generation: Generation) => world.checker.answered(this, generation),
    };
  }
}
