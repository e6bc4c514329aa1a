import { getLogger } from "@logtape/logtape";
import type { Command, CommandReply } from "../core/commands.ts";
import { AppError } from "../core/errors.ts";
import type { LocalFacts } from "../core/facts.ts";
import type { CommandId, ModelId, NodeId } from "../core/ids.ts";
import type { Epoch } from "../core/lineage.ts";
import { eventsFrom, type LogPage } from "../core/log_tail.ts";
import { rejected } from "../core/master.ts";
import {
  hasLeft,
  type Input,
  type Member,
  type Output,
  startMember,
  step,
  wakeAt,
} from "../core/member.ts";
import type { GatherPiece } from "../core/pending_gathers.ts";
import { decodeMessage, encodeMessage, type Message } from "../core/protocol.ts";
import type { CardLookup } from "../core/reconcile.ts";
import { NO_TELEMETRY, type NodeMemory, type Telemetry } from "../core/telemetry.ts";
import type { Millis } from "../core/units.ts";
import { CONTROL } from "../net/topics.ts";
import { TELL_BYTES_MAX, type Transport } from "../net/transport.ts";
import type { Clock } from "./clock.ts";
import type { EventLog } from "./event_log.ts";
import { Gathers } from "./gathers.ts";
import type { Replica } from "./replica.ts";

const log = getLogger(["exo", "control"]);

/** Wait before a step is tried again whose events could not be stored. */
const STORE_RETRY_MS = 1_000;

/** How often the node's memory is looked at while nothing is asked. */
const TELEMETRY_MS = 2_000;

/** How long a node that stops waits for the others to hear of it. */
export const LEAVE_MS = 1_000;

/** How long another node may take to receive a large message. */
const SEND_TIMEOUT_MS = 5_000;

type Accepted = Extract<CommandReply, { type: "CommandAccepted" }>;

/** What a control plane works with. */
export interface ControlPlaneDeps {
  readonly nodeId: NodeId;
  readonly eventLog: EventLog;
  readonly replica: Replica;
  readonly transport: Transport;
  readonly clock: Clock;
  readonly memory: () => NodeMemory;
  /** What a model is; answered within 10 s, or not at all. */
  readonly lookUpCard: (modelId: ModelId) => Promise<CardLookup>;
  /** What an earlier process of this node has left. */
  readonly left: ReturnType<EventLog["replay"]>;
}

/**
 * The shell around `core/member.ts`: gives it time, disk and wire, and decides nothing. A step is
 * taken as a whole or not at all: when its events cannot be stored, the member stays what it was.
 */
export class ControlPlane {
  readonly #deps: ControlPlaneDeps;
  readonly #stops: (() => void)[] = [];
  /** Inputs that came while a step was being performed. */
  readonly #inputs: Input[] = [];
  readonly #waiting = new Map<CommandId, (reply: CommandReply) => void>();
  readonly #gathers = new Gathers((piece) => this.#take({ type: "Gather", piece }));
  /** Facts that the member has not been told, since they could not be stored. */
  #facts: LocalFacts | undefined;
  #member: Member | undefined;
  #stepping = false;
  #stopped = false;
  #probedAt: Millis | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #left: () => void = () => {};

  constructor(deps: ControlPlaneDeps) {
    this.#deps = deps;
  }

  /**
   * Leads at once when nobody else is there.
   * @throws {AppError} `storage_failed` when the first event of its reign cannot be stored.
   */
  start(): void {
    const { nodeId, transport, left } = this.#deps;
    const isAlone = transport.peers().size === 0;
    const started = startMember({ nodeId, ...left, isAlone }, this.#context());
    this.#store(started.outputs, started.member);
    this.#member = started.member;
    this.#stops.push(
      transport.handle(CONTROL.protocol, (body, from) => {
        this.#hear(from, body);
        return Promise.resolve(new Uint8Array());
      }),
      transport.subscribe(CONTROL.topic, (bytes, from) => this.#hear(from, bytes)),
      transport.onPeer(({ peer, isConnected }) =>
        this.#take({ type: isConnected ? "PeerConnected" : "PeerDisconnected", peer })
      ),
    );
    this.#perform(started.outputs);
    for (const peer of transport.peers()) this.#take({ type: "PeerConnected", peer });
    this.#tick();
  }

  /** Tells the cluster that this node stops; resolves once it knows, or after `LEAVE_MS`. */
  async leave(): Promise<void> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    await new Promise<void>((resolve) => {
      this.#left = resolve;
      timer = setTimeout(resolve, LEAVE_MS);
      this.#take({ type: "Leave" });
      this.#tellLeft();
    });
    clearTimeout(timer);
  }

  stop(): void {
    this.#stopped = true;
    for (const stop of this.#stops) stop();
    clearTimeout(this.#timer);
    for (const [commandId, answer] of this.#waiting) {
      answer({ type: "CommandRejected", commandId, error: stopping().toInfo() });
    }
    this.#waiting.clear();
    this.#gathers.stop();
  }

  /** The epoch that this node leads or follows, once it does. */
  epoch(): Epoch | undefined {
    return this.#member?.master === undefined ? undefined : this.#member.epoch;
  }

  /** At most `limit` events from index `since` on, as far as this node still has them. */
  events(since: number, limit: number): LogPage {
    if (!this.#member) return { oldestIdx: 0, events: [] };
    const { tail } = this.#member;
    const recentIdx = tail.base.idx + 1;
    const recent = eventsFrom(tail, since, limit);
    if (recent) return { oldestIdx: recentIdx, events: recent };
    // What happened before this process started is on the disk alone.
    const { oldestIdx, events } = this.#deps.eventLog.events(since, limit);
    return { oldestIdx: Math.min(recentIdx, oldestIdx ?? recentIdx), events };
  }

  /** Latest values of the cluster, this node's memory as it is now. */
  telemetry(): Telemetry {
    const { nodeId, memory } = this.#deps;
    const telemetry = this.#member?.telemetry ?? NO_TELEMETRY;
    return { ...telemetry, memory: new Map(telemetry.memory).set(nodeId, memory()) };
  }

  /**
   * Asks the master; resolves once the command's events are applied here (design D6).
   * @throws {AppError} why it was rejected, or that nobody answered in time.
   */
  async submit(command: Command): Promise<Accepted> {
    if (this.#stopped) throw stopping();
    const reply = await new Promise<CommandReply>((answer) => {
      this.#waiting.set(command.commandId, answer);
      // Whoever places reckons with the memory that is free at this moment.
      this.#probe();
      this.#take({ type: "Command", command });
    });
    if (reply.type === "CommandRejected") throw AppError.from(reply.error);
    return reply;
  }

  /** Latest values that this node has measured, by `linkKey` those of its links. */
  measured(values: Omit<Extract<Input, { type: "Telemetry" }>, "type" | "memory">): void {
    this.#take({ type: "Telemetry", ...values });
  }

  /**
   * What all ranks of a group have for a round of its side channel, by rank.
   * @throws {AppError} `group_broken` with the reason why there is nothing.
   */
  async gather(piece: GatherPiece): Promise<readonly string[]> {
    if (this.#stopped) throw stopping();
    return await this.#gathers.ask(piece);
  }

  /** All that this node has to report now. */
  report(facts: LocalFacts): void {
    this.#take({ type: "Facts", facts });
  }

  #context() {
    const { clock } = this.#deps;
    return { now: clock.now(), uptime: clock.uptime(), freshId: clock.newId() };
  }

  #hear(from: NodeId, bytes: Uint8Array): void {
    const message = decodeMessage(new TextDecoder().decode(bytes));
    if (message) this.#take({ type: "Message", from, message });
    else log.debug("dropped a message of {from} that is none", { from });
  }

  #tick(): void {
    const { clock } = this.#deps;
    const isOld = this.#probedAt === undefined || clock.uptime() >= this.#probedAt + TELEMETRY_MS;
    if (isOld) this.#probe();
    if (this.#facts) this.#take({ type: "Facts", facts: this.#facts });
    this.#take({ type: "Tick" });
  }

  #probe(): void {
    this.#probedAt = this.#deps.clock.uptime();
    this.#take({ type: "Telemetry", memory: this.#deps.memory() });
  }

  /** One input after the other: what a step brings about may be an input itself. */
  #take(input: Input): void {
    if (this.#stopped) return;
    this.#inputs.push(input);
    if (this.#stepping) return;
    this.#stepping = true;
    let isStored = true;
    for (let next = this.#inputs.shift(); next; next = this.#inputs.shift()) {
      isStored = this.#step(next) && isStored;
    }
    this.#stepping = false;
    this.#sleep(isStored);
  }

  /** False when its events could not be stored: nothing has happened then. */
  #step(input: Input): boolean {
    if (!this.#member) return true;
    const { member, outputs } = step(this.#member, input, this.#context());
    try {
      this.#store(outputs, member);
    } catch (cause) {
      log.error("cannot store what {type} brings about: {reason}", {
        type: input.type,
        reason: String(cause),
      });
      if (input.type === "Facts") this.#facts = input.facts;
      if (input.type === "Command") this.#answer(rejected(input.command, cause));
      return false;
    }
    if (input.type === "Facts") this.#facts = undefined;
    this.#member = member;
    this.#deps.replica.set(member.state, member.branch);
    this.#perform(outputs);
    this.#tellLeft();
    return true;
  }

  #tellLeft(): void {
    const member = this.#member;
    const isOver = !member || (member.isLeaving && hasLeft(member, this.#deps.clock.uptime()));
    if (isOver) this.#left();
  }

  /** All that belongs on the disk, before anybody hears of anything. */
  #store(outputs: readonly Output[], member: Member): void {
    const { eventLog } = this.#deps;
    const isStored = eventLog.store(
      outputs.flatMap((output) =>
        output.type === "Persist" || output.type === "Install" || output.type === "KeepBranch"
          ? [output]
          : []
      ),
    );
    if (!isStored || !member.epoch) return;
    try {
      eventLog.compact(member.state, member.epoch);
    } catch (cause) {
      // The events are stored: the tail is longer for it, and nothing is lost.
      log.error("cannot compact the log: {reason}", { reason: String(cause) });
    }
  }

  #perform(outputs: readonly Output[]): void {
    for (const output of outputs) {
      switch (output.type) {
        case "Persist":
        case "Install":
        case "KeepBranch":
          break;
        case "Send":
          this.#send(output.to, output.message);
          break;
        case "Broadcast":
          this.#publish(output.message);
          break;
        case "Reply":
          this.#answer(output.reply);
          break;
        case "LookUpCard":
          void this.#lookUp(output.modelId);
          break;
        case "Elected":
          log.info("{who} leads in epoch {clock}", {
            who: output.isMaster ? "this node" : output.epoch.nodeId,
            clock: output.epoch.clock,
          });
          break;
        case "GatherEnded":
          this.#gathers.ended(output);
          break;
        default:
          output satisfies never;
      }
    }
  }

  /** Best effort, too: whoever misses events asks for them once a heartbeat tells that they are. */
  #publish(message: Message): void {
    try {
      this.#deps.transport.publish(CONTROL.topic, bytesOf(message));
    } catch (cause) {
      log.debug("cannot publish {type}: {reason}", { type: message.type, reason: String(cause) });
    }
  }

  /** Best effort: whoever needs an answer asks again. */
  #send(to: NodeId, message: Message): void {
    this.#tell(to, bytesOf(message)).catch((cause) =>
      log.debug("cannot send {type} to {to}: {reason}", {
        type: message.type,
        to,
        reason: String(cause),
      })
    );
  }

  async #tell(to: NodeId, bytes: Uint8Array): Promise<void> {
    const { transport } = this.#deps;
    if (bytes.length <= TELL_BYTES_MAX) return transport.tell(to, CONTROL.topic, bytes);
    await transport.request(to, CONTROL.protocol, bytes, { timeoutMs: SEND_TIMEOUT_MS });
  }

  #answer(reply: CommandReply): void {
    if (reply.type === "CommandRejected") log.debug("rejected: {reply}", { reply });
    this.#waiting.get(reply.commandId)?.(reply);
    this.#waiting.delete(reply.commandId);
  }

  async #lookUp(modelId: ModelId): Promise<void> {
    try {
      const lookup = await this.#deps.lookUpCard(modelId);
      this.#take({ type: "CardLookup", modelId, lookup });
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause);
      this.#take({ type: "CardLookup", modelId, lookup: { ok: false, reason } });
    }
  }

  #sleep(isStored: boolean): void {
    clearTimeout(this.#timer);
    if (this.#stopped || !this.#member) return;
    const at = wakeAt(this.#member);
    const due = at === undefined ? TELEMETRY_MS : at - this.#deps.clock.uptime();
    const delay = isStored ? Math.max(due, 1) : STORE_RETRY_MS;
    this.#timer = setTimeout(() => this.#tick(), delay);
  }
}

function stopping(): AppError {
  return new AppError("not_ready", "The node is stopping", {
    hint: "start it again with exo serve, or ask another node",
  });
}

function bytesOf(message: Message): Uint8Array {
  return new TextEncoder().encode(encodeMessage(message));
}
