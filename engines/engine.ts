import type { Chunk } from "../core/chunk.ts";
import type { EngineCounts } from "../core/engine_stats.ts";
import type { GroupSpec } from "../core/group.ts";
import type { TaskId } from "../core/ids.ts";
import type { InstanceConfig, Shard } from "../core/instance.ts";
import type { PrefillEnd, PrefillRates, PrefillRequest } from "../core/prefill.ts";
import type { Ring } from "../core/ring.ts";
import type { TextGenerationPayload } from "../core/task.ts";
import type { Span } from "../core/trace.ts";
import type { PrefillFlow } from "./prefill/remote_prefills.ts";

/** A shard of a model and where its files lie on this machine. */
export interface BoundModel {
  readonly shard: Shard;
  /** A GGUF file or a checkpoint folder. */
  readonly modelPath: string;
  readonly config: InstanceConfig;
}

/** Layers in memory so far, counted from 1 to `totalLayers`. */
export interface LoadProgress {
  readonly layersLoaded: number;
  readonly totalLayers: number;
}

/** One generation for an engine. */
export interface GenerationTask {
  readonly taskId: TaskId;
  readonly payload: TextGenerationPayload;
  /** Another instance may read the prompt: what is known of how fast. */
  readonly prefill?: PrefillRates | undefined;
}

/** A prompt to read for another instance, and where its keys and values go. */
export interface PrefillTask {
  readonly taskId: TaskId;
  readonly request: PrefillRequest;
  readonly ring: Ring;
}

/** What an engine does that shares the reading of prompts with others. */
export interface PrefillService {
  /** How fast it reads; undefined before the warm-up. */
  readonly tokensPerSecond: number | undefined;
  /**
   * Takes a prompt into the queue; its task ends like any other, and its bytes may go on after that.
   * @throws {AppError} `queue_full`, or `invalid_request` with what is wrong.
   */
  serve(task: PrefillTask): void;
  /** How far the other end of a ring is, of a generation's or a prefill's. Unknown ids: no-op. */
  flow(taskId: TaskId, flow: PrefillFlow): void;
}

/**
 * What one step yields: a chunk, or the mark that a task is done or dropped on this rank. `traced`
 * comes just before that mark, where tracing is on.
 */
export type EngineResponse =
  | { readonly type: "chunk"; readonly chunk: Chunk }
  | { readonly type: "traced"; readonly spans: readonly Span[] }
  /** The prompt would better be read by the instance that the task was given with. */
  | { readonly type: "prefillWanted"; readonly request: PrefillRequest }
  /** Bytes of a ring that were written, or taken, so far; they may come after the end of the task. */
  | {
    readonly type: "prefillFlow";
    readonly bytes: number;
    readonly end?: PrefillEnd | undefined;
  }
  | { readonly type: "finished" }
  | { readonly type: "cancelled" };

/** Brings a model into memory; every call runs on the runner's main thread. */
export interface Builder {
  /**
   * Joins the other ranks of the instance; resolves once the group stands.
   * @throws {AppError} `group_broken` when it does not within its time, with who is missing.
   */
  connect(spec: GroupSpec): Promise<void>;
  /** Reads the weights; yields after each layer, so that the caller can report and stop. */
  load(model: BoundModel): Iterable<LoadProgress>;
  /** The engine over what `load` brought in. */
  build(): Engine;
  /** Lets the event loop turn once, so that the pipes move. */
  breathe(): Promise<void>;
  close(): void;
}

/** What a step has for one task. */
export type TaskResponse = readonly [TaskId, EngineResponse];

/** Prompts in, tokens out. Every submitted task ends in exactly one `finished` or `cancelled`. */
export interface Engine {
  /** One throw-away generation, so that the first request finds everything warm. */
  warmup(): void;
  /**
   * Takes a task into the queue; computes nothing.
   * @throws {AppError} `context_length_exceeded`, `queue_full` or `invalid_request`; the engine
   * stays as it was.
   */
  submit(task: GenerationTask): { promptTokens: number };
  /** Whether a `step` would do anything. */
  hasWork(): boolean;
  /** At most about 250 ms of work: one chunk of a prompt, or one token. */
  step(): Iterable<TaskResponse>;
  /**
   * Of a rank that others lead: resolves once they have something for it, which `hasWork` then
   * says too. Absent: all its work is submitted to it.
   */
  arrival?(): Promise<void>;
  /** Drops a task wherever it is; its `cancelled` comes with the next step. Unknown ids: no-op. */
  cancel(taskId: TaskId): void;
  /** Gives back what is kept for requests to come, as far as the system is short of memory. */
  relieve(): void;
  /** Absent where keys and values cannot travel. */
  readonly prefills?: PrefillService | undefined;
  /** How it is doing now; cheap enough for once a second. */
  stats(): EngineCounts;
  close(): void;
}
