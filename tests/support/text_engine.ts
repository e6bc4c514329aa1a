import assert from "node:assert/strict";
import type { Chunk } from "../../core/chunk.ts";
import { TaskId } from "../../core/ids.ts";
import type { InstanceConfig } from "../../core/instance.ts";
import type { TextGenerationPayload } from "../../core/task.ts";
import type { EngineResponse } from "../../engines/engine.ts";
import { TextBuilder } from "../../engines/text_builder.ts";
import { TextEngine } from "../../engines/text_engine.ts";
import { bind } from "../engines/golden.ts";

/** How an engine of a test is made. */
export interface TestEngineOptions {
  readonly modelPath: string;
  readonly config: InstanceConfig;
  /** Most tokens' keys and values, as many bytes as the model card says; absent: no such limit. */
  readonly kvTokens?: number;
}

/**
 * The engine that a runner would have over a model. Its clock counts the looks at it, so that what
 * it does with its time is the same in each run.
 */
export function testEngine({ modelPath, config, kvTokens }: TestEngineOptions): TextEngine {
  const bound = bind(modelPath, config);
  const limits: Record<string, string> = {};
  if (kvTokens !== undefined) {
    const { kvBytesPerToken = 0 } = bound.shard.modelCard;
    limits["EXO_KV_CACHE_BYTES"] = String(kvTokens * kvBytesPerToken);
  }
  let ms = 0;
  const builder = new TextBuilder({ now: () => ms++, env: (name) => limits[name] });
  for (const _ of builder.load(bound));
  const engine = builder.build();
  assert(engine instanceof TextEngine);
  return engine;
}

/** What became of a request. */
export interface Outcome {
  readonly tokens: readonly Extract<Chunk, { type: "Token" }>[];
  /** Undefined of one that was cancelled. */
  readonly finish: Extract<Chunk, { type: "Finish" }> | undefined;
}

/** Gathers what requests are sent, and asserts that it comes in order and ends once. */
export class Outcomes {
  readonly #open = new Map<TaskId, { tokens: Outcome["tokens"][number][]; last?: Chunk }>();
  readonly #ended = new Map<TaskId, Outcome>();

  /** Submitted and not over. */
  get openCount(): number {
    return this.#open.size;
  }

  get openIds(): TaskId[] {
    return [...this.#open.keys()];
  }

  begin(taskId: TaskId): void {
    assert(!this.#open.has(taskId) && !this.#ended.has(taskId), `${taskId}: begins once`);
    this.#open.set(taskId, { tokens: [] });
  }

  /** Undefined until it is over. */
  of(taskId: TaskId): Outcome | undefined {
    return this.#ended.get(taskId);
  }

  /** What came so far of one that is not over; undefined of any other. */
  openOf(taskId: TaskId): Outcome | undefined {
    const run = this.#open.get(taskId);
    return run && { tokens: run.tokens, finish: undefined };
  }

  take(taskId: TaskId, response: EngineResponse): void {
    const run = this.#open.get(taskId);
    assert(run, `${taskId}: ${response.type} for a request that is not under way`);
    if (response.type === "chunk") return this.#takeChunk(taskId, run, response.chunk);
    const { tokens, last } = run;
    const finish = last?.type === "Finish" ? last : undefined;
    assert.equal(finish === undefined, response.type === "cancelled", `${taskId}: ends as it says`);
    this.#open.delete(taskId);
    this.#ended.set(taskId, { tokens, finish });
  }

  #takeChunk(
    taskId: TaskId,
    run: { tokens: Outcome["tokens"][number][]; last?: Chunk },
    chunk: Chunk,
  ): void {
    const { last } = run;
    assert(chunk.type !== "Error", `${taskId}: ${JSON.stringify(chunk)}`);
    assert(last?.type !== "Finish", `${taskId}: nothing but its end follows the last chunk`);
    if (chunk.type === "Token") run.tokens.push(chunk);
    run.last = chunk;
  }
}

/** The text of an answer. */
export function textOf({ tokens }: Outcome): string {
  return tokens.map(({ text }) => text).join("");
}

/** The answer to a request that the engine has for itself, and nothing to begin with. */
export function answerAlone(engine: TextEngine, payload: TextGenerationPayload): Outcome {
  assert(!engine.hasWork(), "the engine is idle");
  const taskId = TaskId.parse("alone");
  const outcomes = new Outcomes();
  engine.submit({ taskId, payload: { ...payload, usePrefixCache: false } });
  outcomes.begin(taskId);
  while (engine.hasWork()) for (const part of engine.step()) outcomes.take(...part);
  const outcome = outcomes.of(taskId);
  assert(outcome, "a request ends");
  return outcome;
}
