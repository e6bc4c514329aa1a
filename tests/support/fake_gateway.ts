import type { Gateway, Generation, Readiness, Traces } from "../../api/gateway.ts";
import { apply } from "../../core/apply.ts";
import type { Chunk, Usage } from "../../core/chunk.ts";
import type { Command } from "../../core/commands.ts";
import { AppError } from "../../core/errors.ts";
import type { EngineStats } from "../../core/engine_stats.ts";
import type { Event, IndexedEvent } from "../../core/events.ts";
import type { Epoch } from "../../core/lineage.ts";
import type { LogPage } from "../../core/log_tail.ts";
import {
  CommandId,
  InstanceId,
  ModelId,
  NodeId,
  type RunnerId,
  type TaskId,
} from "../../core/ids.ts";
import { runnersOf } from "../../core/instance.ts";
import { decide } from "../../core/master.ts";
import { ModelCard } from "../../core/model_card.ts";
import type { RunnerStatus } from "../../core/runner_status.ts";
import { EMPTY_STATE, type State } from "../../core/state.ts";
import type { TextGenerationPayload } from "../../core/task.ts";
import type { Span } from "../../core/trace.ts";
import { GIB, MIB } from "../../core/units.ts";
import type { PortRange } from "../../core/ports.ts";
import { PlacementRequest } from "../../core/placement_request.ts";
import { type LinkQuality, NO_TELEMETRY, type Telemetry } from "../../core/telemetry.ts";

/** The one model that most tests know. */
export const TINY = ModelId.parse("local/tiny-0123abcd");

export const NODE = NodeId.parse("node-1");

export const USAGE: Usage = { promptTokens: 5, completionTokens: 2, cachedTokens: 0 };

export const FINISH: Chunk = {
  type: "Finish",
  finishReason: "stop",
  usage: USAGE,
  stats: { promptTokensPerSecond: 50, generationTokensPerSecond: 10, peakMemoryBytes: 1024 },
};

/** A token that reads as `text`. */
export function token(text: string): Chunk {
  return { type: "Token", text, tokenId: 1 };
}

/** A card with what tests do not care about filled in. */
export function cardOf(modelId: string = TINY): ModelCard {
  return ModelCard.parse({
    modelId,
    storageSize: { inBytes: 92 * MIB },
    nLayers: 30,
    hiddenSize: 576,
    supportsTensor: false,
    tasks: ["TextGeneration"],
    backends: ["MlxCpu"],
    contextLength: 2048,
    isCustom: true,
  });
}

/** One generation that was asked for. */
export interface Asked {
  readonly modelId: ModelId;
  readonly payload: TextGenerationPayload;
  readonly signal: AbortSignal;
}

/**
 * A node without processes: the real core decides and applies, and the test plays the runner.
 * `answer` makes the chunks; `accept`, when set, refuses or delays a generation before them.
 */
export class FakeGateway implements Gateway {
  readonly nodeId = NODE;
  readonly version = "0.1.0";
  /** Whose epoch the next events are of. */
  reign: Epoch = { clock: 1, nodeId: NODE };
  /** Where ranks meet of instances that are asked for here. */
  ringPorts: PortRange | undefined;
  readonly asked: Asked[] = [];
  ready: Readiness = { ready: true };
  answer: (asked: Asked) => AsyncIterable<Chunk> | Iterable<Chunk> = () => [
    token("Hello"),
    token(" world"),
    FINISH,
  ];
  accept: (asked: Asked) => Promise<void> | void = () => {};
  /** Runs after each command, as the runners of a node would. */
  afterCommand: (command: Command) => void = () => {};
  /** Runs after somebody has begun to follow the state and has looked at it once. */
  onWatched: () => void = () => {};
  /** What `addModel` finds at a path. */
  readonly files = new Map<string, ModelCard>();
  /** The cards on its disk. */
  readonly diskCards = new Map<ModelId, ModelCard>();
  /** The models of which exo brings a card. */
  readonly bundled = new Set<ModelId>();
  /** What runners have told of their engines. */
  readonly stats = new Map<RunnerId, EngineStats>();
  /** How good links are, as last measured. */
  readonly links = new Map<string, LinkQuality>();
  /** Latest values in place of those that it makes up. */
  measured: Partial<Telemetry> = {};
  /** When others were heard of, on its uptime. */
  readonly lastSeen = new Map<NodeId, number>();
  /** The traces that it has, oldest first. */
  readonly spans = new Map<TaskId, readonly Span[]>();
  readonly traces: Traces = {
    list: () => {
      const entries = [...this.spans].map(([taskId, spans]) => {
        return { taskId, createdAt: 1_750_000_000_000, bytes: spans.length };
      });
      return Promise.resolve(entries.reverse());
    },
    read: (taskId) => Promise.resolve(this.spans.get(taskId)),
    remove: (taskId) => Promise.resolve(this.spans.delete(taskId)),
  };
  readonly onboarding = {
    completed: false,
    isCompleted: () => Promise.resolve(this.onboarding.completed),
    complete: () => {
      this.onboarding.completed = true;
      return Promise.resolve();
    },
  };
  #state: State = EMPTY_STATE;
  #events: IndexedEvent[] = [];
  #oldestIdx = 0;
  readonly #listeners = new Set<() => void>();
  #ids = 0;

  constructor() {
    const info = {
      friendlyName: "test machine",
      osVersion: "Linux 6",
      chipId: "x86",
      machineModel: "Unknown",
      osBuildVersion: "Unknown",
      exoVersion: this.version,
      backends: ["MlxCpu" as const],
    };
    this.emit({ type: "NodeStarted", nodeId: NODE, incarnation: 1, info });
  }

  #decideContext() {
    return { telemetry: this.telemetry(), now: 0, isHeard: () => true };
  }

  /** Applies events and tells the listeners once. */
  emit(...events: readonly Event[]): void {
    for (const event of events) {
      const idx = this.#state.lastEventAppliedIdx + 1;
      const indexed = { idx, epoch: this.reign, event };
      this.#state = apply(this.#state, indexed);
      this.#events.push(indexed);
    }
    for (const listener of this.#listeners) listener();
  }

  /** Lets every instance be ready as soon as it is placed. */
  readyWhatIsPlaced(): void {
    this.afterCommand = (command) => {
      if (command.type !== "PlaceInstance") return;
      this.setRunners(command.instanceId, { type: "RunnerReady" });
    };
  }

  /** Lets the next answer say `text` and wait until it is cancelled, which the promise tells. */
  hangAfter(text: string): Promise<void> {
    const cancelled = Promise.withResolvers<void>();
    const usual = this.answer;
    const becomeUsual = () => void (this.answer = usual);
    this.answer = async function* ({ signal }: Asked) {
      becomeUsual();
      signal.addEventListener("abort", () => cancelled.resolve());
      yield token(text);
      await cancelled.promise;
      yield FINISH;
    };
    return cancelled.promise;
  }

  /** Registers a model whose files this node has. */
  addCard(card: ModelCard): void {
    const { modelId } = card;
    const status = { type: "DownloadCompleted" as const, totalBytes: 92 * MIB, readOnly: true };
    this.emit(
      { type: "CustomModelCardAdded", modelCard: card },
      { type: "NodeDownloadProgress", nodeId: NODE, modelId, status },
    );
  }

  /** Lets exo bring a card. */
  bundle(card: ModelCard): void {
    this.diskCards.set(card.modelId, card);
    this.bundled.add(card.modelId);
  }

  /** An instance of `modelId`, with every runner in `status`. */
  placeModel(modelId: string = TINY, status: RunnerStatus | null = { type: "RunnerReady" }) {
    const instanceId = InstanceId.parse(this.newId());
    const model = ModelId.parse(modelId);
    if (!this.#state.customModelCards.has(model)) this.addCard(cardOf(modelId));
    const request = PlacementRequest.parse({ modelId: model });
    const commandId = CommandId.parse(this.newId());
    const command: Command = { type: "PlaceInstance", commandId, instanceId, request };
    this.emit(...decide(this.#state, command, this.#decideContext()).events);
    if (status) this.setRunners(instanceId, status);
    return instanceId;
  }

  /** Every runner of the instance reports `status`. */
  setRunners(instanceId: InstanceId, status: RunnerStatus): void {
    const instance = this.#state.instances.get(instanceId);
    if (!instance) throw new Error(`no instance ${instanceId}`);
    for (const runnerId of runnersOf(instance)) {
      this.emit({ type: "RunnerStatusUpdated", runnerId, status, incarnation: 1, at: 1_000 });
    }
  }

  /** How many follow the state right now. */
  get listenerCount(): number {
    return this.#listeners.size;
  }

  state(): State {
    return this.#state;
  }

  epoch() {
    return this.reign;
  }

  events(since: number, limit: number): LogPage {
    const at = Math.max(0, since - this.#oldestIdx);
    return { oldestIdx: this.#oldestIdx, events: this.#events.slice(at, at + limit) };
  }

  /** Forgets all events so far, as a node does whose log was compacted long ago. */
  compact(): void {
    this.#events = [];
    this.#oldestIdx = this.#state.lastEventAppliedIdx + 1;
  }

  modelCards() {
    return this.diskCards;
  }

  bundledModels() {
    return this.bundled;
  }

  telemetry() {
    const memory = { ramTotalBytes: 16 * GIB, ramAvailableBytes: 8 * GIB };
    const nodes = [...this.#state.nodes.keys()];
    const { links, lastSeen } = this;
    const memoryOfAll = new Map(nodes.map((id) => [id, memory]));
    return { ...NO_TELEMETRY, memory: memoryOfAll, links, lastSeen, ...this.measured };
  }

  network() {
    return { peerCount: 2, droppedCount: 3 };
  }

  engineStats() {
    return this.stats;
  }

  readiness(): Readiness {
    return this.ready;
  }

  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    queueMicrotask(() => this.onWatched());
    return () => this.#listeners.delete(listener);
  }

  now() {
    return 1_750_000_000_500;
  }

  uptime() {
    return 60_000;
  }

  newId(): string {
    return `id-${++this.#ids}`;
  }

  newSeed(): string {
    return "4242";
  }

  submit(command: Command) {
    // As over a wire: a rejection is a rejected promise, never a throw.
    return Promise.resolve().then(() => {
      const { events, instanceId } = decide(this.#state, command, this.#decideContext());
      this.emit(...events);
      this.afterCommand(command);
      const { commandId } = command;
      const idx = this.#state.lastEventAppliedIdx;
      const type = "CommandAccepted" as const;
      return { type, commandId, idx, ...(instanceId ? { instanceId } : {}) };
    });
  }

  async generate(
    modelId: ModelId,
    payload: TextGenerationPayload,
    signal: AbortSignal,
  ): Promise<Generation> {
    const asked = { modelId, payload, signal };
    this.asked.push(asked);
    await this.accept(asked);
    const chunks = this.answer(asked);
    return {
      commandId: CommandId.parse(this.newId()),
      promptTokens: USAGE.promptTokens,
      chunks: (async function* () {
        yield* chunks;
      })(),
    };
  }

  addModel(path: string): Promise<ModelCard> {
    const card = this.files.get(path);
    if (!card) {
      const message = `Cannot add "${path}": there is no such file or folder`;
      return Promise.reject(new AppError("not_found", message, { hint: "check the path" }));
    }
    this.addCard(card);
    return Promise.resolve(card);
  }

  async removeModel(modelId: ModelId): Promise<void> {
    const commandId = CommandId.parse(this.newId());
    await this.submit({ type: "DeleteCustomModelCard", commandId, modelId });
  }
}
