import type { BatchRequest } from "../../core/batch.ts";
import type { TaskId } from "../../core/ids.ts";
import type { GenerationTask } from "../engine.ts";
import type { Generation } from "./generation.ts";
import type { TaskTrace } from "./task_trace.ts";

/** A request from its submission to its end, as the scheduler sees it. */
export class Run implements BatchRequest {
  readonly taskId: TaskId;
  readonly client: string;
  readonly arrival: number;
  readonly prefixKey: string;
  readonly generation: Generation;
  /** When it came, or was put back into the queue. */
  waitingSince: number;
  /** Is told of its steps, where tracing is on. */
  readonly trace: TaskTrace | undefined;
  usesPrefixes: boolean;
  isCancelled = false;
  /** Since when there is no memory for its next token. */
  starvesSince: number | undefined;
  /** Whole blocks that the prefix cache was given, and whether it has the prompt to its end. */
  keptBlocks = 0;
  hasKeptPrompt = false;
  /** Number of the last step that it was in. */
  lastStep = 0;
  /** Tokens that the totals have of it, its prompt's included. */
  counted: number;

  constructor(
    task: GenerationTask,
    made: {
      arrival: number;
      /** Undefined: nothing is kept of prompts. */
      prefixKey: string | undefined;
      generation: Generation;
      submittedAt: number;
      trace?: TaskTrace | undefined;
    },
  ) {
    this.taskId = task.taskId;
    this.client = task.payload.client ?? "";
    this.usesPrefixes = task.payload.usePrefixCache ?? true;
    this.arrival = made.arrival;
    // Those who do not share have nothing to wait for.
    this.prefixKey = (this.usesPrefixes ? made.prefixKey : undefined) ?? task.taskId;
    this.generation = made.generation;
    this.waitingSince = made.submittedAt;
    this.trace = made.trace;
    this.counted = made.generation.ids.length;
  }

  get pendingTokens(): number {
    return this.generation.pendingTokens;
  }

  get isStarted(): boolean {
    return this.generation.cache !== undefined;
  }
}
