import type { z } from "zod";
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
import { FakeFollower } from "./fake_follower.ts";
import { FakeRing } from "./fake_ring.ts";
import { block, FakeScript, strike, type Write } from "./fake_script.ts";
import { promptTooLong, queueFull } from "./refusals.ts";

export { FakeScript, strike } from "./fake_script.ts";
export type { Stage } from "./fake_script.ts";

/** An engine without weights: deterministic, instant, and faulty on demand. */
export class FakeBuilder implements Builder {
  readonly #script: FakeScript;
  readonly #write: Write;
  readonly #closed = new AbortController();
  #ring: FakeRing | undefined;

  constructor(script: z.input<typeof FakeScript> = {}, write: Write = () => {}) {
    this.#script = FakeScript.parse(script);
    this.#write = write;
  }

  async connect(spec: GroupSpec): Promise<void> {
    this.#ring = await FakeRing.join(spec, this.#script.joinMs, this.#closed.signal);
  }

  *load(_model: BoundModel): Iterable<LoadProgress> {
    strike(this.#script, "load", this.#write, this.#ring?.rank);
    yield { layersLoaded: 1, totalLayers: 1 };
  }

  /** By a timer: a loop that is kept busy with immediates seldom looks at its pipes. */
  breathe(): Promise<void> {
    return new Promise((resolve) => setTimeout(resolve, 0));
  }

  build(): Engine {
    const [script, write, ring] = [this.#script, this.#write, this.#ring];
    return ring && ring.rank > 0
      ? new FakeFollower(script, write, ring)
      : new FakeEngine(script, write, ring);
  }

  close(): void {
    this.#closed.abort();
    this.#ring?.close();
  }
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
  readonly #ring: FakeRing | undefined;
  /** What the other ranks have been told to compute, and the last has not confirmed. */
  #inFlight: FakeRun | undefined;
  readonly #totals = {
    ...{ requests: 0, promptTokens: 0, prefillTokens: 0, generatedTokens: 0, steps: 0 },
  };

  constructor(script: FakeScript, write: Write, ring?: FakeRing) {
    this.#script = script;
    this.#write = write;
    this.#ring = ring;
  }

  arrival(): Promise<void> {
    return this.#ring?.arrival() ?? new Promise(() => {});
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
    if (this.#ring?.hasNews || this.#queue.some(({ cancelled }) => cancelled)) return true;
    return this.#queue.length > 0 && this.#inFlight === undefined;
  }

  *step(): Iterable<readonly [TaskId, EngineResponse]> {
    for (const run of this.#queue.filter(({ cancelled }) => cancelled)) {
      this.#queue.splice(this.#queue.indexOf(run), 1);
      yield [run.task.taskId, { type: "cancelled" }];
    }
    const frame = this.#ring?.take();
    const waited = this.#inFlight;
    if (waited) {
      if (frame === undefined) return;
      this.#inFlight = undefined;
      if (this.#queue.includes(waited)) yield* this.#end(waited);
      return;
    }
    const [run] = this.#queue;
    if (!run || this.#totals.requests < this.#script.gatherRequests) return;
    this.#begin(run);
    if (!this.#inFlight) yield* this.#end(run);
  }

  /** Computes the own part of a step; the other ranks of a group are told to do theirs. */
  #begin(run: FakeRun): void {
    this.#totals.steps++;
    const stage = !run.prefilled ? "prefill" : run.emitted > 0 ? "decode" : undefined;
    if (stage) strike(this.#script, stage, this.#write);
    if (run.prefilled) block(this.#script.stepMs);
    if (!this.#ring) return;
    this.#ring.send(stage ?? "first");
    this.#inFlight = run;
  }

  /** What a step has brought once all ranks have done their part. */
  *#end(run: FakeRun): Iterable<readonly [TaskId, EngineResponse]> {
    const { taskId } = run.task;
    if (run.prefilled) return yield* this.#decode(run);
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
    this.#ring?.close();
  }

  *#decode(run: FakeRun): Iterable<readonly [TaskId, EngineResponse]> {
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
