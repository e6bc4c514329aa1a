import { z } from "zod";
import { CommandId, InstanceId, ModelId, NodeId, TaskId } from "./ids.ts";
import { PrefillSource } from "./prefill.ts";
import { SamplingParams } from "./sampling.ts";

/** Where a task stands; the first two occupy its instance. */
export const TaskStatus = z.enum([
  "Pending",
  "Running",
  "Complete",
  "TimedOut",
  "Failed",
  "Cancelled",
]);
export type TaskStatus = z.infer<typeof TaskStatus>;

/** What a task makes. */
export const TaskType = z.enum(["TextGeneration", "ImageGeneration", "ImageEdits"]);
export type TaskType = z.infer<typeof TaskType>;

/** A generation as the log knows it: metadata only. The prompt stays on the API node (D3). */
export const Task = z.object({
  type: TaskType,
  taskId: TaskId,
  commandId: CommandId,
  instanceId: InstanceId,
  modelId: ModelId,
  apiNodeId: NodeId,
  taskStatus: TaskStatus,
  /** Who may prefill the prompt, when another instance is linked for that. */
  prefill: PrefillSource.optional(),
  errorType: z.string().optional(),
  errorMessage: z.string().optional(),
});
export type Task = z.infer<typeof Task>;

/** Whether the task still occupies its instance. */
export function isInFlight(task: Task): boolean {
  return task.taskStatus === "Pending" || task.taskStatus === "Running";
}

/** One turn of a conversation, as chat templates take it. */
export const ChatMessage = z.object({
  role: z.enum(["system", "developer", "user", "assistant", "tool"]),
  content: z.string(),
  name: z.string().optional(),
});
export type ChatMessage = z.infer<typeof ChatMessage>;

/** Longest stop string. */
export const STOP_CHARS_MAX = 256;

/** Most stop strings of one request. */
export const STOP_STRINGS_MAX = 16;

/** Longest name of a client. */
export const CLIENT_CHARS_MAX = 256;

/** Most tokens with a bias of their own. */
export const LOGIT_BIAS_MAX = 1_024;

/** Most alternatives that are told beside each token. */
export const TOP_LOGPROBS_MAX = 20;

/** What a generation is asked for. Lives on the API node; the ranks that serve it fetch it. */
export const TextGenerationPayload = z.object({
  messages: z.array(ChatMessage).min(1).max(10_000),
  sampling: SamplingParams,
  /** Most tokens to generate; absent: as many as the context has room for. */
  maxTokens: z.number().int().min(1).optional(),
  stop: z.array(z.string().min(1).max(STOP_CHARS_MAX)).max(STOP_STRINGS_MAX),
  /** 64 bits as decimal digits: JSON numbers cannot hold them. */
  seed: z.string().regex(/^\d{1,20}$/),
  /** Added to the logits of these tokens: (id, bias). */
  logitBias: z.array(z.tuple([z.number().int().min(0), z.number().min(-100).max(100)]))
    .max(LOGIT_BIAS_MAX).optional(),
  /** Log-probability of each token, with this many of the likeliest beside it; absent: none. */
  topLogprobs: z.number().int().min(0).max(TOP_LOGPROBS_MAX).optional(),
  /** Goes on after tokens that end an answer, for benchmarks. */
  ignoreEos: z.boolean().optional(),
  /** Whether keys and values of earlier requests are used, and these are kept; absent: yes. */
  usePrefixCache: z.boolean().optional(),
  /** Who asks: an instance shares its time evenly between those that are named differently. */
  client: z.string().max(CLIENT_CHARS_MAX).optional(),
});
export type TextGenerationPayload = z.infer<typeof TextGenerationPayload>;
