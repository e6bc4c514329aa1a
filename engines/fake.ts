import { z } from "zod";
import type { EngineCounts } from "../core/engine_stats.ts";
import type { TokenLogprobs } from "../core/chunk.ts";
import { AppError } from "../core/errors.ts";
import type { GroupSpec } from "../core/group.ts";
import type { TaskId } from "../core/ids.ts";
import type {
  BoundModel,
  Builder,
  Engine,
  EngineResponse,
  GenerationTask,
  LoadProgress,
} from "./engine.ts";
import { promptTooLong, queueFull } from "./refusals.ts";

/**
 * How a fake engine behaves, from the file that `EXO_ENGINE_SCRIPT` names. Faults name the stage
 * in which they strike.
 */
export const FakeScript = z.object({
  /** The tokens of every answer; absent: the words of the last message, in order. */
  tokens: z.array(z.string()).optional(),
  contextTokens: z.number().int().min(1).default(4_096),
  queueMax: z.number().int().min(1).default(8),
  /** Ends the process with code 1 in this stage. */
  exitIn: z.enum(["load", "warmup", "prefill", "decode"]).optional(),
  /** Throws in this stage: `request` hits one generation, the others end the process. */
  failIn: z.enum(["load", "warmup", "request"]).optional(),
  /** Holds the thread in this stage for ever, as hanging native code would. */
  hangIn: z.enum(["load", "warmup", "prefill", "decode"]).optional(),
  /** Writes bytes that are no frames on the channel of reports in this stage. */
  garbageIn: z.enum(["load", "warmup", "prefill", "decode"]).optional(),
  /** Takes memory in this stage until there is none: the system ends the process. */
  exhaustIn: z.enum(["load", "warmup", "prefill", "decode"]).optional(),
  /** Takes no step before it has been given so many requests. */
  gatherRequests: z.number().int().min(1).default(1),
  /** Every token is the time at which it was made, in milliseconds since 1970, and a space. */
  isDated: z.boolean().default(false),
  /** Decodes for ever, never finishing. */
  endless: z.boolean().default(false),
  /** Blocks the thread for this long in every decode step. */
  stepMs: z.number().min(0).default(0),
});
export type FakeScript = z.infer<typeof FakeScript>;

type Write = (bytes: Uint8Array) => void;

/** An engine without weights: deterministic, instant, and faulty on demand. */
export class FakeBuilder implements Builder {
  readonly #script: FakeScript;
  readonly #write: Write;

  /** `write` puts bytes on the channel of reports as they are. */
  constructor(script: z.input<typeof FakeScript> = {}, write: Write = () => {}) {
    this.#script = FakeScript.parse(script);
    this.#write = write;
  }

  async connect(_spec: GroupSpec): Promise<void> {}

  *load(_model: BoundModel): Iterable<LoadProgress> {
    strike(this.#script, "load", this.#write);
    yield { layersLoaded: 1, totalLayers: 1 };
  }

  /** By a timer: a loop that is kept busy with immediates seldom looks at its pipes. */
  breathe(): Promise<void> {
    return new Promise((resolve) => setTimeout(resolve, 0));
  }

  build(): Engine {
    return new FakeEngine(this.#script, this.#write);
  }

  close(): void {}
}

interface FakeRun {
  readonly task: GenerationTask;
  readonly tokens: readonly string[];
  readonly promptTokens: number;
  prefilled: boolean;
  emitted: number;
  cancelled: boolean;
}

/** Bytes of the weights that a fake engine says it has. */
const FAKE_WEIGHT_BYTES = 1024;

class FakeEngine implements Engine {
  readonly #script: FakeScript;
  readonly #write: Write;
  readonly #queue: FakeRun[] = [];
  readonly #totals = {
    ...{ requests: 0, promptTokens: 0, prefillTokens: 0, generatedTokens: 0, steps: 0 },
  };

  constructor(script: FakeScript, write: Write) {
    this.#script = script;
    this.#write = write;
  }

  warmup(): void {
    strike(this.#script, "warmup", this.#write);
  }

  submit(task: GenerationTask): { promptTokens: number } {
    const words = task.payload.messages.map(({ content }) => content).join(" ").split(/\s+/);
    const promptTokens = words.length;
    const { contextTokens, queueMax } = this.#script;
    if (promptTokens >= contextTokens) {
      throw promptTooLong(promptTokens, contextTokens);
    }
    if (this.#queue.length >= queueMax) {
      throw queueFull(this.#queue.length, queueMax);
    }
    const last = task.payload.messages.at(-1)?.content ?? "";
    const tokens = this.#script.tokens ?? last.split(/(?<=\s)/);
    this.#queue.push({
      task,
      tokens,
      promptTokens,
      prefilled: false,
      emitted: 0,
      cancelled: false,
    });
    this.#totals.requests++;
    return { promptTokens };
  }

  hasWork(): boolean {
    return this.#queue.length > 0;
  }

  *step(): Iterable<readonly [TaskId, EngineResponse]> {
    for (const run of this.#queue.filter(({ cancelled }) => cancelled)) {
      this.#queue.splice(this.#queue.indexOf(run), 1);
      yield [run.task.taskId, { type: "cancelled" }];
    }
    const [run] = this.#queue;
    if (!run || this.#totals.requests < this.#script.gatherRequests) return;
    this.#totals.steps++;
    const { taskId } = run.task;
    if (!run.prefilled) {
      strike(this.#script, "prefill", this.#write);
      if (this.#script.failIn === "request") {
        this.#queue.shift();
        const error = new AppError("invalid_request", "The fake engine was told to fail").toInfo();
        yield [taskId, { type: "chunk", chunk: { type: "Error", error } }];
        yield [taskId, { type: "finished" }];
        return;
      }
      run.prefilled = true;
      this.#totals.promptTokens += run.promptTokens;
      this.#totals.prefillTokens += run.promptTokens;
      const { promptTokens } = run;
      const counts = { processedTokens: promptTokens, totalTokens: promptTokens };
      yield [taskId, { type: "chunk", chunk: { type: "PrefillProgress", ...counts } }];
      return;
    }
    yield* this.#decode(run);
  }

  cancel(taskId: TaskId): void {
    for (const run of this.#queue) if (run.task.taskId === taskId) run.cancelled = true;
  }

  /** It keeps nothing. */
  relieve(): void {}

  /** One at a time; without a clock nobody waits. */
  stats(): EngineCounts {
    const running = Math.min(this.#queue.length, 1);
    return {
      running,
      queued: this.#queue.length - running,
      longestWaitMilliseconds: 0,
      batchSize: running,
      preemptions: 0,
      cachedTokens: 0,
      ...this.#totals,
      memory: {
        weightBytes: FAKE_WEIGHT_BYTES,
        kvBytes: 0,
        prefixCacheBytes: 0,
        kvBudgetBytes: 0,
      },
    };
  }

  close(): void {
    this.#queue.length = 0;
  }

  *#decode(run: FakeRun): Iterable<readonly [TaskId, EngineResponse]> {
    if (run.emitted > 0) strike(this.#script, "decode", this.#write);
    block(this.#script.stepMs);
    const { taskId, payload } = run.task;
    const { endless, contextTokens } = this.#script;
    const ends = endless ? Infinity : run.tokens.length;
    const room = payload.ignoreEos ? contextTokens - run.promptTokens : ends;
    const limit = Math.min(payload.maxTokens ?? Infinity, endless ? Infinity : room);
    if (run.emitted < limit) {
      const token = run.tokens[run.emitted % run.tokens.length] ?? "";
      const text = this.#script.isDated ? `${performance.timeOrigin + performance.now()} ` : token;
      const { topLogprobs } = payload;
      const logprobs = topLogprobs === undefined ? {} : { logprobs: [certain(run, topLogprobs)] };
      const chunk = { type: "Token" as const, text, tokenId: run.emitted, ...logprobs };
      yield [taskId, { type: "chunk", chunk }];
      run.emitted++;
      this.#totals.generatedTokens++;
    }
    if (run.emitted < limit) return;
    this.#queue.splice(this.#queue.indexOf(run), 1);
    const isLength = payload.ignoreEos || run.emitted < run.tokens.length;
    const finishReason = isLength ? "length" : "stop";
    const completionTokens = run.emitted;
    const usage = { promptTokens: run.promptTokens, completionTokens, cachedTokens: 0 };
    const stats = { promptTokensPerSecond: 0, generationTokensPerSecond: 0, peakMemoryBytes: 0 };
    yield [taskId, { type: "chunk", chunk: { type: "Finish", finishReason, usage, stats } }];
    yield [taskId, { type: "finished" }];
  }
}

/** The next token, of which the engine has no doubt; there is no other to name beside it. */
function certain({ tokens, emitted }: FakeRun, topLogprobs: number): TokenLogprobs {
  const bytes = [...new TextEncoder().encode(tokens[emitted % tokens.length])];
  const chosen = { tokenId: emitted, bytes, logprob: 0 };
  return { ...chosen, top: topLogprobs > 0 ? [chosen] : [] };
}

/** Where in its life an engine is struck. */
export type Stage = "load" | "warmup" | "prefill" | "decode";

/** Does what the script asks for in this stage; `write` goes to the channel of reports. */
export function strike(script: FakeScript, stage: Stage, write: Write): void {
  if (script.exitIn === stage) Deno.exit(1);
  if (script.hangIn === stage) block(Infinity);
  if (script.garbageIn === stage) write(GARBAGE);
  if (script.exhaustIn === stage) exhaust();
  if (script.failIn === stage) {
    throw new AppError("load_failed", `The fake engine was told to fail in ${stage}`);
  }
}

/** Lengths that no frame has, and text that is no JSON. */
const GARBAGE = new TextEncoder().encode("\xff\xff\xff\xffgarbage, not a frame".repeat(8));

/** Fills the heap, which ends the process with V8's own last words. */
function exhaust(): never {
  const held: number[][] = [];
  while (true) held.push(new Array(1_000_000).fill(held.length));
}

/** Holds the thread as native code would. */
function block(milliseconds: number): void {
  if (milliseconds <= 0) return;
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds);
}
