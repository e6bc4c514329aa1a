import type { NodeId, TaskId } from "../../core/ids.ts";
import { ModelId, NodeId as NodeIdSchema } from "../../core/ids.ts";
import { ModelCard } from "../../core/model_card.ts";
import { decodeMessage, encodeMessage, type Message } from "../../core/protocol.ts";
import type { CardLookup } from "../../core/reconcile.ts";
import { GIB } from "../../core/units.ts";
import { Random } from "../support/random.ts";
import { Checker } from "./checker.ts";
import { ipOf } from "./machine.ts";
import { Marks } from "./marks.ts";
import { Network } from "./network.ts";
import { SimNode } from "./node.ts";
import type { Ring, RunnerWorld, SimRunner, Temper } from "./runners.ts";
import { Schedule } from "./schedule.ts";

/** Lines of the trace that a failure shows. */
const TRACE_LINES = 60;

/** Looks for a prompt before a rank gives up. */
const PROMPT_TRIES = 6;
const PROMPT_RETRY_MS = 500;

/** How a world is made. */
export interface WorldOptions {
  readonly seed: number;
  /** Absent: 1 to 7, by the seed. */
  readonly nodes?: number | undefined;
  /** Keeps every line of the trace, not only the last. */
  readonly keepTrace?: boolean | undefined;
}

/** A model of this world. */
export interface SimModel {
  readonly card: ModelCard;
  readonly temper: Temper;
}

/** Machines, their network, and what runs on them: all of it in one thread, by one seed. */
export class World implements RunnerWorld {
  readonly schedule = new Schedule();
  readonly marks = new Marks();
  readonly random: Random;
  readonly network: Network;
  readonly checker: Checker;
  readonly nodes: SimNode[] = [];
  readonly rings = new Map<string, Ring>();
  readonly models = new Map<ModelId, SimModel>();
  /** Whether bad things may still happen. */
  isChaos = true;
  /** How often each mishap of models comes, 0 in a calm world. */
  downloadFailRatio = 0;
  lookupFailRatio = 0;
  lookupSlowRatio = 0;
  steps = 0;
  /** A digest of all that happened: equal seeds, equal digests. */
  digest = 0;
  readonly lines: string[] = [];
  readonly #traced: [number, () => string][] = [];
  readonly #isWire: boolean;
  /** Whether the machines are Macs with cables for RDMA between all of them. */
  readonly isCabled: boolean;

  constructor(readonly options: WorldOptions) {
    this.random = new Random(options.seed * 7919 + 1);
    // Numbers of neighbouring seeds are alike at first.
    for (let i = 0; i < 8; i++) this.random.next();
    this.network = new Network(this.schedule, this.random, this.marks);
    this.checker = new Checker(this);
    this.#isWire = this.random.below(20) === 0;
    this.isCabled = this.random.below(8) === 0;
    this.#makeModels();
    const count = options.nodes ?? 1 + this.random.below(7);
    for (let machine = 0; machine < count; machine++) this.#addNode(machine, count);
  }

  /** Notes what happened; the words are made only when somebody reads them. */
  trace(line: () => string): void {
    this.digest = (Math.imul(this.digest, 31) + this.schedule.now + this.steps) | 0;
    if (this.options.keepTrace) this.lines.push(`${this.schedule.now} ${line()}`);
    this.#traced.push([this.schedule.now, line]);
    if (this.#traced.length > 4 * TRACE_LINES) this.#traced.splice(0, 3 * TRACE_LINES);
  }

  /** The last things that happened. */
  lastLines(): string[] {
    return this.#traced.slice(-TRACE_LINES).map(([time, line]) => `  ${time} ms  ${line()}`);
  }

  get live(): SimNode[] {
    return this.nodes.filter(({ isUp }) => isUp);
  }

  nodeOf(nodeId: NodeId): SimNode | undefined {
    return this.nodes.find((node) => node.nodeId === nodeId);
  }

  start(node: SimNode): void {
    if (!node.isUp) node.start(this.nodes.length === 1);
  }

  /** Kills a node; it comes back by itself, sooner or later. */
  crash(node: SimNode, power: boolean): void {
    node.kill(power);
    const { life } = node;
    const delay = this.random.below(4) === 0
      ? 25_000 + this.random.below(20_000)
      : 100 + this.random.below(8_000);
    this.schedule.after(delay, () => node.life === life && this.restart(node));
  }

  /** Stops a node as SIGTERM does; it comes back like one that was killed. */
  stop(node: SimNode): void {
    node.leave(() => {
      this.crash(node, false);
      if (!this.isChaos) this.restart(node);
    });
  }

  restart(node: SimNode): void {
    if (node.isUp) return;
    this.marks.hit("fault: node restarted with its disk");
    this.start(node);
  }

  send(from: SimNode, to: NodeId, message: Message): void {
    const target = this.nodeOf(to);
    if (target) this.#carry(from, target, message);
  }

  broadcast(from: SimNode, message: Message): void {
    for (const peer of this.network.peersOf(from.machine)) {
      this.#carry(from, this.nodes[peer] as SimNode, message);
    }
  }

  #carry(from: SimNode, target: SimNode, message: Message): void {
    const [sender, receiver] = [from.nodeId, target.nodeId];
    this.checker.sends(message);
    const carried = this.#isWire ? decodeMessage(encodeMessage(message)) : message;
    this.checker.holds(
      carried !== undefined,
      "every message survives the wire",
      () => JSON.stringify(message).slice(0, 500),
    );
    this.network.send(from.machine, target.machine, () => {
      if (target.isUp && target.nodeId === receiver) target.receive(sender, carried as Message);
    });
  }

  temperOf(modelId: ModelId): Temper {
    return this.models.get(modelId)?.temper ?? "normal";
  }

  ipOf(machine: number): string {
    return ipOf(machine, this.nodes[machine]?.life ?? 0);
  }

  isOpen(a: number, b: number): boolean {
    const up = (machine: number) => (this.nodes[machine] as SimNode).isUp;
    return up(a) && up(b) && this.network.isOpen(a, b);
  }

  downloadFails(_: ModelId): boolean {
    return this.isChaos && this.random.next() < this.downloadFailRatio;
  }

  /** What a hub says of a model, and when. */
  lookUp(modelId: ModelId): { delayMs: number; lookup: CardLookup } {
    const modelCard = this.models.get(modelId)?.card;
    const isSlow = this.isChaos && this.random.next() < this.lookupSlowRatio;
    if (isSlow) this.marks.hit("fault: card lookup slow");
    const delayMs = isSlow ? 2_000 + this.random.below(7_900) : 5 + this.random.below(200);
    if (this.isChaos && this.random.next() < this.lookupFailRatio) {
      this.marks.hit("fault: card lookup failed");
      return { delayMs, lookup: { ok: false, reason: "the hub is away" } };
    }
    if (!modelCard) return { delayMs, lookup: { ok: false, reason: `nobody knows ${modelId}` } };
    return { delayMs, lookup: { ok: true, modelCard } };
  }

  openPrompt(
    node: SimNode,
    { taskId, api, then }: { taskId: TaskId; api: NodeId; then: (tokens?: number) => void },
    tries = PROMPT_TRIES,
  ): void {
    const target = this.nodeOf(api);
    node.later(2 + this.random.below(50), () => {
      if (target && this.isOpen(node.machine, target.machine)) {
        return then(target.api?.pending.get(taskId)?.tokens);
      }
      if (tries <= 1) return then(undefined);
      node.later(PROMPT_RETRY_MS, () => this.openPrompt(node, { taskId, api, then }, tries - 1));
    });
  }

  /** A token travels on a stream of its own; one that breaks ends the generation. */
  token(
    node: SimNode,
    { runner, taskId, isLast }: { runner: SimRunner; taskId: TaskId; isLast: boolean },
  ): void {
    this.checker.token(taskId, runner);
    const api = node.state.tasks.get(taskId)?.apiNodeId;
    const target = api === undefined ? undefined : this.nodeOf(api);
    if (!target || !this.isOpen(node.machine, target.machine)) {
      runner.cancel(taskId);
      target?.api?.broken(taskId);
      return;
    }
    target.later(1 + this.random.below(20), () => target.api?.token(runner, taskId, isLast));
  }

  #addNode(machine: number, count: number): void {
    const { random } = this;
    const ramTotalBytes = (4 + random.below(28)) * GIB;
    const ramBaseBytes = (1 + random.below(2)) * GIB;
    const facts = { ramTotalBytes, ramBaseBytes, links: new Map() };
    const node = new SimNode(this, machine, NodeIdSchema.parse(`n${machine}`), facts);
    this.nodes.push(node);
    this.network.add(node);
    this.schedule.after(random.below(count === 1 ? 10 : 4_000), () => this.start(node));
  }

  #makeModels(): void {
    const tempers: Temper[] = ["normal", "normal", "normal", "slow", "flaky", "never"];
    for (const [at, temper] of tempers.entries()) {
      const modelId = ModelId.parse(`org/model-${at}-${temper}`);
      const inBytes = (1 + this.random.below(at === 2 ? 24 : 8)) * GIB;
      const card = ModelCard.parse({
        modelId,
        storageSize: { inBytes },
        nLayers: 8 + this.random.below(32),
        hiddenSize: 4_096,
        numKeyValueHeads: 8,
        supportsTensor: this.random.below(2) === 0,
        tasks: ["TextGeneration"],
        backends: ["MlxCpu", "MlxMetal"],
        contextLength: 2_048,
      });
      this.models.set(modelId, { card, temper });
    }
  }
}
