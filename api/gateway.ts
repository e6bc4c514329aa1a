import type { Chunk } from "../core/chunk.ts";
import type { Command, CommandReply } from "../core/commands.ts";
import type { EngineStats } from "../core/engine_stats.ts";
import type { Epoch } from "../core/lineage.ts";
import type { CommandId, ModelId, NodeId, RunnerId, TaskId } from "../core/ids.ts";
import type { LogPage } from "../core/log_tail.ts";
import type { ModelCard } from "../core/model_card.ts";
import type { PortRange } from "../core/ports.ts";
import type { Telemetry } from "../core/telemetry.ts";
import type { State } from "../core/state.ts";
import type { TextGenerationPayload } from "../core/task.ts";
import type { Span, TraceEntry } from "../core/trace.ts";
import type { Millis } from "../core/units.ts";

/** A generation that its runner has accepted. */
export interface Generation {
  readonly commandId: CommandId;
  readonly promptTokens: number;
  /**
   * PrefillProgress and Token chunks, then exactly one Finish or Error; never throws. Leaving the
   * loop early cancels the generation.
   */
  readonly chunks: AsyncIterable<Chunk>;
}

/** The traces of tasks that a node keeps. */
export interface Traces {
  /** Newest first. */
  list(): Promise<readonly TraceEntry[]>;
  /** Spans in the order of their starts; undefined when the task has none here. */
  read(taskId: TaskId): Promise<readonly Span[] | undefined>;
  /** False when there was none. */
  remove(taskId: TaskId): Promise<boolean>;
}

/** Whether somebody has been shown how to use exo. */
export interface Onboarding {
  isCompleted(): Promise<boolean>;
  /** @throws {AppError} `storage_failed`. */
  complete(): Promise<void>;
}

/** Whether a node can serve, and if not, why. */
export type Readiness = { readonly ready: true } | {
  readonly ready: false;
  readonly reason: string;
  readonly hint: string;
};

/** What the HTTP room needs of a node; `cli/serve.ts` supplies it. */
export interface Gateway {
  readonly nodeId: NodeId;
  readonly version: string;
  readonly traces: Traces;
  readonly onboarding: Onboarding;
  /** Where ranks of the instances meet that clients of this node ask for; absent: anywhere. */
  readonly ringPorts?: PortRange | undefined;
  /** The state as this node has applied it. */
  state(): State;
  /** At most `limit` events from index `since` on, as far as this node still has them. */
  events(since: number, limit: number): LogPage;
  /** The master's epoch; undefined while none is known. */
  epoch(): Epoch | undefined;
  /** The model cards on this node's disk, beside those of the state: one for each model. */
  modelCards(): ReadonlyMap<ModelId, ModelCard>;
  /** The models of which exo brings a card, whether another one comes before it or not. */
  bundledModels(): ReadonlySet<ModelId>;
  /** Memory, links and who was heard of: latest values, beside the log. */
  telemetry(): Telemetry;
  /** How the engines of runners are doing: latest values, beside the log. */
  engineStats(): ReadonlyMap<RunnerId, EngineStats>;
  /** Nodes that this one has a connection with, and messages given up because a queue was full. */
  network(): { readonly peerCount: number; readonly droppedCount: number };
  /** Whether the node has joined and knows its master. */
  readiness(): Readiness;
  /** Calls `listener` after each change of state, until the returned function is called. */
  onChange(listener: () => void): () => void;
  now(): Millis;
  /** A clock that nobody sets; only differences mean something. */
  uptime(): Millis;
  /** A fresh id, for commands and instances. */
  newId(): string;
  /** 64 random bits as decimal digits. */
  newSeed(): string;
  /**
   * Asks the master; resolves once the command's events are applied here (design D6).
   * @throws {AppError} the reason of the rejection, or `timed_out` / `not_ready`.
   */
  submit(command: Command): Promise<Extract<CommandReply, { type: "CommandAccepted" }>>;
  /**
   * Starts a generation; resolves when its runner has accepted it (queued counts).
   * `signal` aborted means that the client is gone: the task is cancelled.
   * @throws {AppError} `context_length_exceeded`, `queue_full`, `model_not_found`, `not_ready`,
   * `runner_failed`, `timed_out`… before anything was streamed.
   */
  generate(
    modelId: ModelId,
    payload: TextGenerationPayload,
    signal: AbortSignal,
  ): Promise<Generation>;
  /**
   * Registers a GGUF file or a checkpoint folder of this machine, where it lies.
   * @throws {AppError} `not_found`, `corrupt_model`, `unsupported_model`.
   */
  addModel(path: string): Promise<ModelCard>;
  /** Forgets a model; its files stay. @throws {AppError} `model_not_found`, `conflict`. */
  removeModel(modelId: ModelId): Promise<void>;
}
