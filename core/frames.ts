import { z } from "zod";
import { Chunk } from "./chunk.ts";
import { EngineStats } from "./engine_stats.ts";
import { ErrorInfo } from "./errors.ts";
import { GroupSpec } from "./group.ts";
import { TaskId } from "./ids.ts";
import { InstanceConfig, Shard } from "./instance.ts";
import { RunnerStatus } from "./runner_status.ts";
import { TaskStatus, TextGenerationPayload } from "./task.ts";
import { Span, SPANS_MAX } from "./trace.ts";

/** Largest frame between node and runner, header and body together. */
export const FRAME_BYTES_MAX = 64 * 1024 * 1024;

/** Bytes before header and body: two u32, little-endian. */
export const FRAME_PREFIX_BYTES = 8;

const incarnation = z.number().int().min(0);

/** What a node tells its runner. Each is acknowledged by `Ack`. */
export const RunnerCommand = z.discriminatedUnion("type", [
  z.object({
    type: z.literal("ConnectToGroup"),
    taskId: TaskId,
    incarnation,
    group: GroupSpec,
  }),
  z.object({
    type: z.literal("LoadModel"),
    taskId: TaskId,
    incarnation,
    /** A GGUF file or a checkpoint folder on this machine. */
    modelPath: z.string().min(1),
    shard: Shard,
    config: InstanceConfig,
  }),
  z.object({ type: z.literal("StartWarmup"), taskId: TaskId, incarnation }),
  z.object({
    type: z.literal("TextGeneration"),
    taskId: TaskId,
    incarnation,
    payload: TextGenerationPayload,
  }),
  z.object({ type: z.literal("CancelTask"), taskId: TaskId, cancelledTaskId: TaskId, incarnation }),
  /** Asks for nothing but the acknowledgement, which a runner that hangs does not give. */
  z.object({ type: z.literal("Ping"), taskId: TaskId, incarnation }),
  z.object({ type: z.literal("Shutdown"), taskId: TaskId, incarnation }),
]);
export type RunnerCommand = z.infer<typeof RunnerCommand>;

/** What a runner reports to its node. */
export const RunnerReport = z.discriminatedUnion("type", [
  z.object({ type: z.literal("StatusUpdated"), incarnation, status: RunnerStatus }),
  z.object({ type: z.literal("Ack"), incarnation, taskId: TaskId }),
  z.object({
    type: z.literal("TaskUpdated"),
    incarnation,
    taskId: TaskId,
    taskStatus: TaskStatus,
  }),
  z.object({ type: z.literal("ChunkGenerated"), incarnation, taskId: TaskId, chunk: Chunk }),
  /** Once a second while the engine works, and before each Ready. */
  z.object({ type: z.literal("StatsUpdated"), incarnation, stats: EngineStats }),
  /** Where a task's time went, before the end of the task; only where tracing is on. */
  z.object({
    type: z.literal("TaskTraced"),
    incarnation,
    taskId: TaskId,
    spans: z.array(Span).max(SPANS_MAX),
  }),
  /** The last words of a runner that cannot go on. */
  z.object({
    type: z.literal("RunnerError"),
    incarnation,
    reason: z.string(),
    code: ErrorInfo.shape.code.optional(),
  }),
]);
export type RunnerReport = z.infer<typeof RunnerReport>;
