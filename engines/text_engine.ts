import { type BatchView, nextMove } from "../core/batch.ts";
import type { Chunk } from "../core/chunk.ts";
import type { EngineCounts } from "../core/engine_stats.ts";
import { AppError, assert, toAppError } from "../core/errors.ts";
import { FairShare } from "../core/fair_share.ts";
import type { TaskId } from "../core/ids.ts";
import { resolveSampling, type SamplingParams } from "../core/sampling.ts";
import { memoryCounters, resetPeakMemory } from "../ffi/mod.ts";
import { type Decoder, StepLost } from "./decoder.ts";
import type { Engine, GenerationTask, PrefillService, TaskResponse } from "./engine.ts";
import { KvMemory } from "./kv_memory.ts";
import { PrefillExchange, type PrefillSettings } from "./prefill/exchange.ts";
import { memoryExhausted } from "./refusals.ts";
import { isFinish } from "./text/answer.ts";
import type { BatchOutcome } from "./text/batch_step.ts";
import type { ChatTemplate } from "./text/chat_template.ts";
import { EngineCounters } from "./text/engine_counters.ts";
import { Generation, type GenerationRequest } from "./text/generation.ts";
import { keepPrefix, keepProgress } from "./text/kept_prefix.ts";
import { PrefillPace } from "./text/prefill_pace.ts";
import { PromptEncoder } from "./text/prompt_encoder.ts";
import { Run } from "./text/run.ts";
import { requirePlace } from "./text/queue_places.ts";
import { requireKnownBiases, requireKnownTokens, requireRoom } from "./text/prompt_limits.ts";
import { type EndedStep, type StepPart, StepsUnderWay } from "./text/steps_under_way.ts";
import { TaskTrace, type Tracing } from "./text/task_trace.ts";
import type { TextTokenizer } from "./text/tokenizer.ts";
import { warmUp } from "./text/warm_up.ts";

/** What a {@linkcode TextEngine} is made of; `TextBuilder` puts it together. */
export interface TextEngineParts {
  readonly vocabSize: number;
  /** Freed with the engine, before the weights. */
  readonly decoder: Decoder;
  /** Freed with the engine. */
  readonly weights: Disposable;
  readonly tokenizer: TextTokenizer;
  readonly template: ChatTemplate | undefined;
  readonly eosIds: ReadonlySet<number>;
  /** Prompt and answer together, as far as the KV budget has room for them. */
  readonly contextTokens: number;
  /** What holds for what a request leaves open, in this order. */
  readonly samplingDefaults: readonly (SamplingParams | undefined)[];
  /** Generations computed at once. */
  readonly runningMax: number;
  readonly prefillChunkTokens: number;
  /** Most bytes of keys and values, those of the prefix cache included. */
  readonly kvBudgetBytes: number;
  /** Most of them for requests to come; 0: none are kept. Absent: what nobody else needs. */
  readonly prefixCacheBytes?: number;
  /** Bytes that may be taken from the system now; absent: there is no need to look. */
  readonly spareBytes?: () => number;
  readonly now: () => number;
  /** How prompts are read for others, and by them; absent: not at all. */
  readonly prefill?: PrefillSettings | undefined;
  /** Whether tasks tell where their time went; absent: no. */
  readonly tracing?: Tracing | undefined;
}

/** How long a request that is alone waits for memory before it fails. */
export const STARVE_MS_MAX = 5_000;

/** How long a step waits for another rank: then commands are looked at. */
export const LOOK_MS = 20;

/** Language models: many requests at once, each as if it were alone (`core/batch.ts` decides). */
export class TextEngine implements Engine {
  readonly #parts: TextEngineParts;
  readonly #memory: KvMemory;
  readonly #prompts: PromptEncoder;
  readonly #pace = new PrefillPace();
  readonly #fairShare = new FairShare();
  /** All that are not over: those that run, and those that wait. */
  readonly #runs = new Map<TaskId, Run>();
  readonly #running: Run[] = [];
  readonly #waiting: Run[] = [];
  readonly #steps: StepsUnderWay;
  /** Those of a step that broke off, until each was in one alone. */
  readonly #suspects: Run[] = [];
  readonly #counters = new EngineCounters();
  #arrivals = 0;
  readonly #exchange: PrefillExchange;

  constructor(parts: TextEngineParts) {
    this.#parts = parts;
    this.#memory = new KvMemory(parts);
    this.#prompts = new PromptEncoder(parts.tokenizer, parts.contextTokens);
    this.#steps = new StepsUnderWay(parts);
    this.#exchange = new PrefillExchange({
      ...parts,
      settings: parts.prefill,
      kv: parts.decoder.kvBytes,
      memory: this.#memory,
      tokensPerSecond: () => this.#pace.tokensPerSecond,
      queue: {
        requirePlace: (client) => requirePlace(this.#waiting, client),
        enter: (task, request) => this.#waiting.push(this.#enter(task, request)),
        wait: (run) => this.#waiting.push(run),
        fail: (taskId, error) => this.#failIfThere(taskId, error),
        cancel: (taskId) => this.cancel(taskId),
      },
    });
  }

  get prefills(): PrefillService | undefined {
    return this.#exchange.service;
  }

  /** Bytes of all keys and values, those of the prefix cache included. */
  get cacheBytes(): number {
    return this.#parts.decoder.cacheBytes;
  }

  warmup(): void {
    warmUp(this.#parts, this.#pace);
  }

  submit(task: GenerationTask): { promptTokens: number } {
    const { payload } = task;
    const { contextTokens, samplingDefaults, eosIds } = this.#parts;
    const client = payload.client ?? "";
    requirePlace(this.#waiting, client);
    const promptIds = this.#prompts.encode(this.#template.render(payload.messages));
    const promptTokens = promptIds.length;
    requireRoom(promptTokens, contextTokens);
    requireKnownTokens(promptIds, this.#parts.vocabSize);
    requireKnownBiases(payload.logitBias ?? [], this.#parts.vocabSize);
    const request: GenerationRequest = {
      ...{ promptIds, eosIds, stop: payload.stop, seed: BigInt(payload.seed) },
      sampling: resolveSampling(payload.sampling, ...samplingDefaults),
      maxTokens: Math.min(payload.maxTokens ?? Infinity, contextTokens - promptTokens),
      ignoreEos: payload.ignoreEos ?? false,
      logitBias: payload.logitBias,
      topLogprobs: payload.topLogprobs,
    };
    const run = this.#enter(task, request);
    const isRemote = task.prefill && this.#exchange.begin(run, task.prefill);
    if (!isRemote) this.#waiting.push(run);
    return { promptTokens };
  }

  /** A request from now on; it waits for nothing yet. */
  #enter(task: GenerationTask, request: GenerationRequest): Run {
    const { tokenizer, decoder, tracing } = this.#parts;
    const { promptIds } = request;
    const client = task.payload.client ?? "";
    const submittedAt = this.#parts.now();
    const generation = new Generation(request, { tokenizer, submittedAt });
    const prefixKey = this.#memory.keepsPrefixes
      ? promptIds.slice(0, decoder.blockPositions).join()
      : undefined;
    const arrival = this.#arrivals++;
    if (!this.hasWork()) resetPeakMemory();
    // Where its time went is told by whoever has the client.
    const isServed = this.#exchange.serves(task.taskId);
    const trace = tracing && !isServed ? new TaskTrace(tracing, submittedAt) : undefined;
    const run = new Run(task, { arrival, prefixKey, generation, submittedAt, trace });
    this.#runs.set(run.taskId, run);
    this.#fairShare.arrive(client);
    this.#counters.submitted();
    return run;
  }

  get #template(): ChatTemplate {
    const { template } = this.#parts;
    if (template) return template;
    throw new AppError(
      "invalid_request",
      "Cannot build the prompt: the model has no chat template, one needed",
      {
        hint: "choose a version of the model made for chats: -Instruct or -Chat in its name",
      },
    );
  }

  hasWork(): boolean {
    const { idleCount, hasWork } = this.#exchange;
    return this.#runs.size > idleCount || this.#steps.size > 0 || hasWork;
  }

  *step(): Generator<TaskResponse> {
    const cancelled = [...this.#runs.values()].filter(({ isCancelled }) => isCancelled);
    for (const run of cancelled) {
      yield* this.#exchange.drop(run);
      this.#drop(run);
    }
    for (const run of cancelled) yield* this.#over(run, "cancelled");
    if (cancelled.length === 0) {
      yield* this.#exchange.take();
      yield* this.#advance();
      // What a step has computed goes while the next one is under way.
      yield* this.#exchange.give();
    }
    this.#rest();
  }

  /** Where other ranks follow: they hear of what was let go, though there is no step to tell it. */
  #rest(): void {
    if (!this.hasWork()) this.#parts.decoder.flush?.();
  }

  /** Launches steps while there is room for them, and tells what those gave that are over. */
  #advance(): TaskResponse[] {
    this.#memory.makeRoom(0);
    const responses = this.#fill();
    if (this.#steps.wait(responses.length > 0 ? 0 : LOOK_MS)) {
      do responses.push(...this.#ended(this.#steps.collect())); while (this.#steps.wait(0));
    }
    if (responses.length === 0 && this.#steps.size === 0) this.#exchange.wait(LOOK_MS);
    // While the runner passes on what these gave, other ranks have the next to do.
    if (this.#parts.decoder.stepsAtOnce > 1) responses.push(...this.#fill());
    return responses;
  }

  #fill(): TaskResponse[] {
    const responses: TaskResponse[] = [];
    while (this.#steps.hasRoom) {
      const told = this.#suspects.length > 0 ? this.#launchAlone() : this.#launchNext();
      if (!told) break;
      responses.push(...told);
      if (told.length > 0) break;
    }
    return responses;
  }

  /** Makes moves up to a step; undefined: there is nothing to launch now. */
  #launchNext(): TaskResponse[] | undefined {
    while (true) {
      const move = nextMove(this.#view());
      if (move.type === "rest") return undefined;
      if (move.type === "run") {
        return this.#launch(
          move.rows.map(({ taskId, tokens }) => ({ run: this.#find(taskId), tokens })),
        );
      }
      const run = this.#find(move.taskId);
      // A block that is kept for others is copied before it is written: without them it need not be.
      if (move.type === "fail" && this.#memory.clear()) continue;
      if (move.type === "fail") {
        const told = this.#exchange.release();
        if (told) return told.length > 0 ? told : undefined;
        return this.#starve(run);
      }
      if (move.type === "admit") this.#admit(run);
      if (move.type === "start") {
        try {
          this.#start(run);
        } catch (cause) {
          return this.#fail(run, toAppError(cause, "internal"));
        }
      }
      if (move.type === "preempt") this.#preempt(run);
    }
  }

  /** A request that is alone waits a while for memory that others have taken. */
  #starve(run: Run): TaskResponse[] | undefined {
    const now = this.#parts.now();
    run.starvesSince ??= now;
    this.#parts.decoder.ask?.();
    return now - run.starvesSince < STARVE_MS_MAX ? undefined : this.#fail(run, memoryExhausted());
  }

  #view(): BatchView {
    const { runningMax, prefillChunkTokens } = this.#parts;
    return {
      running: this.#running,
      waiting: this.#waiting,
      standing: (client) => this.#fairShare.standing(client),
      fits: (bytes) => this.#memory.fits(bytes),
      bytesFor: ({ taskId }, tokens) => {
        const { cache } = this.#find(taskId).generation;
        return cache?.bytesFor(tokens, prefillChunkTokens) ?? this.#memory.bytesOf(tokens);
      },
      bytesHeld: ({ taskId }) => this.#find(taskId).generation.cache?.bytes ?? 0,
      runningMax,
      stepsAtOnce: this.#parts.decoder.stepsAtOnce,
      chunkTokens: this.#pace.next(prefillChunkTokens),
      chunkTokensBesideDecode: this.#pace.nextBesideDecode(prefillChunkTokens),
    };
  }

  #find(taskId: TaskId): Run {
    const run = this.#runs.get(taskId);
    assert(run, `the scheduler names requests that it was shown, not ${taskId}`);
    return run;
  }

  #admit(run: Run): void {
    transfer(run, this.#waiting, this.#running);
    this.#fairShare.admitted(run.client, this.#waiting.map(({ client }) => client));
  }

  #start(run: Run): void {
    const { generation, usesPrefixes } = run;
    const cache = this.#memory.begin(generation.ids, usesPrefixes);
    const isFirst = generation.start(cache, this.#parts.now());
    // What was computed for an earlier request goes at once.
    this.#exchange.note(run);
    if (!isFirst) return;
    this.#counters.begun(generation.ids.length, generation.cachedTokens);
  }

  /** What it has computed is kept as long as nobody needs the memory. */
  #preempt(run: Run): void {
    keepPrefix(run, this.#memory);
    run.generation.suspend();
    transfer(run, this.#running, this.#waiting);
    run.waitingSince = this.#parts.now();
    this.#counters.preempted();
  }

  #launch(batch: readonly { run: Run; tokens: number }[]): TaskResponse[] {
    let bytes = 0;
    for (const { run, tokens } of batch) {
      run.starvesSince = undefined;
      bytes += run.generation.cache?.bytesFor(tokens) ?? 0;
    }
    this.#memory.makeRoom(bytes);
    try {
      this.#steps.launch(batch);
    } catch (cause) {
      return this.#brokeOff(batch.map(({ run }) => run), { size: batch.length, cause });
    }
    for (const { run } of batch) keepProgress(run, this.#memory);
    return [];
  }

  #ended({ parts, size, outcome }: EndedStep): TaskResponse[] {
    if ("cause" in outcome) {
      return this.#brokeOff(parts.map(({ run }) => run), { size, cause: outcome.cause });
    }
    this.#count(parts, outcome);
    return parts.flatMap(({ run }, i) => this.#respond(run, outcome.results[i] ?? []));
  }

  /**
   * After a step that broke off: whose fault it was shows when each is alone. Nobody knows what is in
   * their caches, so that they are computed again.
   */
  #brokeOff(
    runs: readonly Run[],
    { size, cause }: { readonly size: number; readonly cause: unknown },
  ): TaskResponse[] {
    const error = toAppError(cause, "internal");
    // Nothing is to be had of the other ranks any more.
    if (error.code === "group_broken") throw error;
    const [only] = runs;
    if (size === 1 && !(cause instanceof StepLost)) return only ? this.#fail(only, error) : [];
    for (const run of runs) run.generation.suspend();
    this.#suspects.push(...runs);
    this.#memory.clear();
    return [];
  }

  /** The next of those, once nothing else is under way. */
  #launchAlone(): TaskResponse[] | undefined {
    if (this.#steps.size > 0) return undefined;
    const run = this.#suspects.shift();
    assert(run, "there is one");
    try {
      this.#start(run);
    } catch (cause) {
      return this.#fail(run, toAppError(cause, "internal"));
    }
    const tokens = Math.min(run.pendingTokens, this.#pace.next(this.#parts.prefillChunkTokens));
    return this.#launch([{ run, tokens }]);
  }

  #count(parts: readonly StepPart[], { startedAt, endedAt }: BatchOutcome): void {
    const stretch = { from: startedAt, to: endedAt };
    let [read, generated] = [0, 0];
    for (const { run: { client, trace }, tokens, wasPrefilling } of parts) {
      if (wasPrefilling) trace?.prefilled(tokens, stretch);
      else trace?.decoded(stretch);
      const work = wasPrefilling ? { read: tokens, generated: 0 } : { read: 0, generated: 1 };
      this.#fairShare.charge(client, work);
      read += work.read;
      generated += work.generated;
    }
    if (read > 0) this.#pace.measured(read + generated, endedAt - startedAt);
    this.#counters.stepped(parts.length, read);
  }

  #respond(run: Run, result: readonly Chunk[] | AppError): TaskResponse[] {
    if (result instanceof AppError) return this.#fail(run, result);
    const { taskId, generation } = run;
    if (this.#exchange.serves(taskId)) return this.#served(run);
    this.#counters.generated(generation.ids.length - run.counted);
    run.counted = generation.ids.length;
    const responses = result.map((chunk): TaskResponse => [taskId, { type: "chunk", chunk }]);
    if (!result.some(isFinish)) return responses;
    this.#drop(run);
    return [...responses, ...this.#over(run, "finished")];
  }

  /** A prompt that is read for another instance has no client here. */
  #served(run: Run): TaskResponse[] {
    if (!this.#exchange.note(run)) {
      keepProgress(run, this.#memory);
      return [];
    }
    this.#drop(run);
    return this.#over(run, "finished");
  }

  #failIfThere(taskId: TaskId, error: AppError): TaskResponse[] {
    const run = this.#runs.get(taskId);
    return run ? this.#fail(run, error) : [];
  }

  /** A request's failure is its own, and the engine lives on. */
  #fail(run: Run, error: AppError): TaskResponse[] {
    // What it computed may be what is wrong.
    run.usesPrefixes = false;
    if (error.code === "internal") this.#memory.clear();
    this.#drop(run);
    if (this.#exchange.hasFailed(run, error)) return this.#over(run, "finished");
    const chunk = { type: "Error" as const, error: error.toInfo() };
    return [[run.taskId, { type: "chunk", chunk }], ...this.#over(run, "finished")];
  }

  /** The mark that a request is over, after where its time went if that is recorded. */
  #over({ taskId, trace }: Run, type: "finished" | "cancelled"): TaskResponse[] {
    const spans = trace?.spans(this.#parts.now());
    return [...spans ? [[taskId, { type: "traced", spans }] as const] : [], [taskId, { type }]];
  }

  #drop(run: Run): void {
    keepPrefix(run, this.#memory);
    run.generation[Symbol.dispose]();
    this.#runs.delete(run.taskId);
    for (const list of [this.#running, this.#waiting, this.#suspects]) {
      if (list.includes(run)) list.splice(list.indexOf(run), 1);
    }
    this.#fairShare.leave(run.client);
  }

  cancel(taskId: TaskId): void {
    const run = this.#runs.get(taskId);
    if (run) run.isCancelled = true;
  }

  /** Gives back what is kept for requests to come, as far as the system is short of it. */
  relieve(): void {
    this.#parts.decoder.ask?.();
    this.#memory.makeRoom(0);
    this.#rest();
  }

  /** Lets go of the keys and values that are kept for requests to come. */
  clearPrefixCache(): void {
    this.#memory.clear();
    this.#rest();
  }

  stats(): EngineCounts {
    const prefixCacheBytes = this.#memory.prefixBytes;
    const kvBytes = this.cacheBytes - prefixCacheBytes;
    // A share of what was free, which is seldom whole.
    const kvBudgetBytes = Math.floor(this.#memory.budgetBytes);
    const weightBytes = memoryCounters().activeBytes - this.cacheBytes;
    return this.#counters.counts({
      at: this.#parts.now(),
      running: this.#running.length,
      waitingSince: this.#waiting.map(({ waitingSince }) => waitingSince),
      memory: { weightBytes, kvBytes, prefixCacheBytes, kvBudgetBytes },
      group: this.#parts.decoder.traffic?.(),
    });
  }

  close(): void {
    for (const run of [...this.#runs.values()]) this.#drop(run);
    this.#exchange[Symbol.dispose]();
    this.#memory[Symbol.dispose]();
    this.#parts.decoder[Symbol.dispose]();
    this.#parts.weights[Symbol.dispose]();
  }
}

function transfer(run: Run, from: Run[], to: Run[]): void {
  from.splice(from.indexOf(run), 1);
  to.push(run);
}
