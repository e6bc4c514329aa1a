import { join } from "node:path";
import { getLogger } from "@logtape/logtape";
import type { Command, CommandReply } from "../core/commands.ts";
import type { EngineStats } from "../core/engine_stats.ts";
import { AppError } from "../core/errors.ts";
import type { Epoch } from "../core/lineage.ts";
import { CommandId, type ModelId, type NodeId, type RunnerId } from "../core/ids.ts";
import type { LogPage } from "../core/log_tail.ts";
import type { ModelCard } from "../core/model_card.ts";
import type { PortRange } from "../core/ports.ts";
import type { Telemetry } from "../core/telemetry.ts";
import type { State } from "../core/state.ts";
import type { TextGenerationPayload } from "../core/task.ts";
import type { Millis } from "../core/units.ts";
import { MemoryNetwork } from "../net/memory.ts";
import type { Transport } from "../net/transport.ts";
import type { AcceptedGeneration } from "./generation_attempt.ts";
import { loadModelCards } from "./model_cards.ts";
import { Onboarding } from "./onboarding.ts";
import { assemble, INCARNATION, type NodeOptions, type Parts } from "./parts.ts";
import { probeNode } from "./probe.ts";
import { openStorage } from "./storage.ts";
import { systemReason } from "./system_error.ts";
import type { TraceStore } from "./trace_store.ts";

export type { NodeOptions } from "./parts.ts";

const log = getLogger(["exo", "node"]);

/** A machine of the cluster: its parts, started in order and stopped in the reverse. */
export class Node {
  readonly version: string;
  readonly ringPorts: PortRange | undefined;
  readonly onboarding: Onboarding;
  readonly #parts: Parts;
  #ready = false;
  #stopped: Promise<void> | undefined;

  private constructor(parts: Parts, { version, ringPorts, dataDir }: NodeOptions) {
    this.#parts = parts;
    this.version = version;
    this.ringPorts = ringPorts;
    this.onboarding = new Onboarding(dataDir);
  }

  /**
   * Starts a node on a data directory; it comes back with the instances that it had.
   * @throws {AppError} `storage_failed` or `conflict` when a directory cannot be used.
   */
  static async start(options: NodeOptions): Promise<Node> {
    await makeDataDir(options.dataDir);
    const cards = await loadModelCards({
      resourcesDir: options.resourcesDir,
      customDir: join(options.dataDir, "custom_model_cards"),
      exoVersion: options.version,
    });
    const { identity, eventLog, left } = await openStorage(options.dataDir);
    const { nodeId } = identity;
    let node: Node | undefined;
    let transport: Transport | undefined;
    try {
      transport = await options.connect?.(identity) ?? new MemoryNetwork().join(nodeId);
      node = new Node(assemble(transport, { eventLog, left }, { ...options, cards }), options);
      await node.#start(options);
      return node;
    } catch (cause) {
      if (node) await node.stop();
      else {
        await transport?.close();
        eventLog.close();
      }
      throw cause;
    }
  }

  get nodeId(): NodeId {
    return this.#parts.nodeId;
  }

  state(): State {
    return this.#parts.replica.state;
  }

  epoch(): Epoch | undefined {
    return this.#parts.control.epoch();
  }

  /** At most `limit` events from index `since` on, as far as this node still has them. */
  events(since: number, limit: number): LogPage {
    return this.#parts.control.events(since, limit);
  }

  /** Memory, links and who was heard of, as far as this node knows. */
  telemetry(): Telemetry {
    return this.#parts.control.telemetry();
  }

  /** The cards on this node's disk, one for each model. */
  modelCards(): ReadonlyMap<ModelId, ModelCard> {
    return this.#parts.cards.cards;
  }

  /** The models of which exo brings a card. */
  bundledModels(): ReadonlySet<ModelId> {
    return this.#parts.cards.bundled;
  }

  engineStats(): ReadonlyMap<RunnerId, EngineStats> {
    return this.#parts.worker.engineStats();
  }

  /** The traces that tasks of this node have left. */
  get traces(): Pick<TraceStore, "list" | "read" | "remove"> {
    return this.#parts.traces;
  }

  /** Nodes that this one has a connection with, and messages given up because a queue was full. */
  network(): { readonly peerCount: number; readonly droppedCount: number } {
    const { transport } = this.#parts;
    return { peerCount: transport.peers().size, droppedCount: transport.droppedCount() };
  }

  readiness(): { ready: true } | { ready: false; reason: string; hint: string } {
    if (this.#ready) return { ready: true };
    if (this.#stopped) return { ready: false, reason: "the node is stopping", hint: START_AGAIN };
    const hint = "ask again in a second: a node with a long log takes some to start";
    return { ready: false, reason: "it is starting", hint };
  }

  onChange(listener: () => void): () => void {
    return this.#parts.replica.onChange(listener);
  }

  now(): Millis {
    return this.#parts.clock.now();
  }

  uptime(): Millis {
    return this.#parts.clock.uptime();
  }

  newId(): string {
    return this.#parts.clock.newId();
  }

  newSeed(): string {
    return this.#parts.clock.newSeed();
  }

  /** @throws {AppError} why the command is rejected. */
  async submit(command: Command): Promise<Extract<CommandReply, { type: "CommandAccepted" }>> {
    this.#requireRunning();
    return await this.#parts.control.submit(command);
  }

  /** @throws {AppError} why the generation is refused. */
  async generate(
    modelId: ModelId,
    payload: TextGenerationPayload,
    signal: AbortSignal,
  ): Promise<AcceptedGeneration> {
    this.#requireRunning();
    return await this.#parts.gateway.generate(modelId, payload, signal);
  }

  /** Registers a model of this machine. @throws {AppError} why it cannot be used. */
  async addModel(path: string): Promise<ModelCard> {
    const { models, nodeId } = this.#parts;
    const { modelCard, totalBytes } = await models.add(path);
    await this.submit({
      type: "AddCustomModelCard",
      commandId: this.#commandId(),
      modelCard,
      holder: { nodeId, status: { type: "DownloadCompleted", totalBytes, readOnly: true } },
    });
    this.#tellModel(modelCard.modelId);
    return modelCard;
  }

  /** Forgets a model; its files stay. @throws {AppError} when it is unknown or in use. */
  async removeModel(modelId: ModelId): Promise<void> {
    const commandId = this.#commandId();
    await this.submit({ type: "DeleteCustomModelCard", commandId, modelId });
    // Somebody may have added it again meanwhile.
    if (this.state().customModelCards.has(modelId)) return;
    const { models, reporter, nodeId } = this.#parts;
    models.forget(modelId);
    const status = { type: "DownloadPending" as const };
    void reporter.report({ type: "NodeDownloadProgress", nodeId, modelId, status });
  }

  /** Process ids of this node's runners. */
  runnerPids(): ReadonlyMap<RunnerId, number> {
    return this.#parts.worker.runnerPids();
  }

  /** Ends streams, runners and the log, and tells the others; a second call waits for the first. */
  stop(): Promise<void> {
    return this.#stopped ??= this.#stop();
  }

  async #start({ name, version, deviceFile, sources }: NodeOptions): Promise<void> {
    const { control, gateway, reporter, links, worker, nodeId, eventLog, gatherer, models } =
      this.#parts;
    control.start();
    gateway.start();
    const info = await probeNode({ name, version, deviceFile, sources });
    const gpu = gatherer.watchGpu();
    // Models are placed here by its memory, and placed at once if somebody waits for a node.
    if (info.backends.includes("MlxCuda")) await gpu;
    const incarnation = eventLog.nextCounter(INCARNATION);
    await reporter.report({ type: "NodeStarted", nodeId, incarnation, info });
    links.start();
    gatherer.start({ incarnation, info, isNamed: name !== undefined });
    for (const modelId of models.modelIds()) this.#tellModel(modelId);
    worker.start();
    this.#ready = true;
    log.info("node {nodeId} is up: incarnation {incarnation}", { nodeId, incarnation });
  }

  async #stop(): Promise<void> {
    this.#ready = false;
    const { gateway, worker, reporter, links, bulk, control, transport, eventLog, traces } =
      this.#parts;
    links.stop();
    const gathered = this.#parts.gatherer.stop();
    gateway.stop();
    await Promise.all([worker.stop(), control.leave()]);
    await traces.flush();
    await gathered;
    reporter.stop();
    control.stop();
    bulk.close();
    await transport.close();
    eventLog.close();
    log.info("node stopped");
  }

  #requireRunning(): void {
    if (!this.#stopped) return;
    throw new AppError(
      "not_ready",
      `Cannot take the request: node ${this.nodeId} is stopping, a running one needed`,
      {
        hint: START_AGAIN,
      },
    );
  }

  /** Whether this node has a model's files: told for as long as it runs, to whoever leads. */
  #tellModel(modelId: ModelId): void {
    const { models, reporter, nodeId } = this.#parts;
    void models.status(modelId).then((status) =>
      reporter.report({ type: "NodeDownloadProgress", nodeId, modelId, status })
    );
  }

  #commandId(): CommandId {
    return CommandId.parse(this.newId());
  }
}

/** What to do about a node that will not answer any more. */
const START_AGAIN = "start it again with exo serve, or ask another node";

async function makeDataDir(dataDir: string): Promise<void> {
  try {
    await Deno.mkdir(dataDir, { recursive: true, mode: 0o700 });
  } catch (cause) {
    const wanted = `Cannot make the data directory "${dataDir}"`;
    const found = systemReason(cause);
    throw new AppError("storage_failed", `${wanted}: ${found}, a writable folder needed`, {
      hint: "name a folder that you may write to with --data-dir or EXO_HOME",
      cause,
    });
  }
}
