/**
 * One turn of exo's engine, as a program: the kernels take their number of threads from the
 * environment of their process. Takes an {@linkcode EngineTask} as JSON, prints an
 * {@linkcode EngineFigures}.
 */
import type { GenerationStats } from "../core/chunk.ts";
import { AppError, toAppError } from "../core/errors.ts";
import { TaskId } from "../core/ids.ts";
import { GREEDY, usesCpuKernels } from "../engines/decoder.ts";
import type { BoundModel, Engine, EngineResponse, GenerationTask } from "../engines/engine.ts";
import { TextBuilder } from "../engines/text_builder.ts";
import type { EngineFigures, EngineTask, LoadFigures } from "./engine_report.ts";
import { anyIds, type OpenModel, openModel } from "./open_model.ts";
import { usageOf } from "./process_usage.ts";
import { promptText, sizePrompt } from "./prompt.ts";

/** All that was asked for. @throws {AppError} when the model cannot be measured here. */
async function measureTurn(task: EngineTask): Promise<EngineFigures> {
  if (!usesCpuKernels()) { // Opens the library, as a runner has before it is told to load.
    throw new AppError("unsupported_model", "Cannot measure the CPU kernels: MLX uses a GPU here", {
      hint: "EXO_MLX=cpu takes MLX for CPUs",
    });
  }
  const { builder, load } = loadModel(task.model);
  const engine = builder.build();
  try {
    await engine.warmup();
    const alone = await measureAlone(engine, task);
    return { load, ...alone, atOnce: [] };
  } finally {
    engine.close();
  }
}

/** Brings the model into memory as a runner does. */
function loadModel(model: BoundModel): { builder: TextBuilder; load: LoadFigures } {
  const builder = new TextBuilder();
  forgetPeak();
  const before = usageOf(Deno.pid);
  const startedAt = performance.now();
  for (const _ of builder.load(model));
  const ms = performance.now() - startedAt;
  const after = usageOf(Deno.pid);
  const peakGrowthBytes = before && after ? after.peakBytes - before.residentBytes : null;
  return { builder, load: { ms, peakGrowthBytes } };
}

/** Lets the peak of resident memory begin anew. Source: proc(5), clear_refs. */
function forgetPeak(): void {
  try {
    Deno.writeTextFileSync("/proc/self/clear_refs", "5");
  } catch {
    // Then the peak is that of the whole life, which is no less.
  }
}

/** One sequence at a time, through the engine's own queue. */
async function measureAlone(
  engine: Engine,
  { pp, tg, shortPp }: EngineTask,
): Promise<Pick<EngineFigures, "prompt" | "decode">> {
  const short = await promptOf(engine, shortPp);
  const long = await promptOf(engine, pp);
  await answer(engine, request(long(0), 2)); // By it the engine learns how long its steps take.
  const { stats: { decode }, promptTokens } = await answer(engine, request(short(1), tg));
  if (!decode || decode.steps === 0) throw notMeasured("the first token ended the answer");
  const read = await answer(engine, request(long(2), 1));
  const stepMs = decode.milliseconds / decode.steps;
  const kernelMs = Object.fromEntries(
    Object.entries(decode.kernelMilliseconds).map(([kind, ms]) => [kind, ms / decode.steps]),
  );
  return {
    prompt: {
      tokens: read.promptTokens,
      tokensPerSecond: read.promptTokens / read.promptMs * 1_000,
    },
    decode: {
      ...{ promptTokens, tokens: decode.steps, tokensPerSecond: 1_000 / stepMs, stepMs, kernelMs },
    },
  };
}

/** Prompts of nearly that many tokens, none of which begins as another. */
async function promptOf(engine: Engine, tokens: number): Promise<(serial: number) => string> {
  const count = async (words: number) => {
    const { taskId, payload } = request(promptText(words, 0), 1);
    const { promptTokens } = engine.submit({ taskId, payload });
    engine.cancel(taskId);
    for await (const _ of engine.step());
    return promptTokens;
  };
  const { words } = await sizePrompt(tokens, count);
  return (serial) => promptText(words, serial);
}

function request(content: string, maxTokens: number): GenerationTask {
  const messages = [{ role: "user" as const, content }];
  return {
    taskId: TaskId.parse("bench"),
    payload: { messages, maxTokens, sampling: { temperature: 0 }, stop: [], seed: "1" },
  };
}

interface Answer {
  readonly stats: GenerationStats;
  readonly promptTokens: number;
  /** From the submission until the prompt was read. */
  readonly promptMs: number;
}

/** Steps until the answer is there. */
async function answer(engine: Engine, task: GenerationTask): Promise<Answer> {
  const startedAt = performance.now();
  const { promptTokens } = engine.submit(task);
  let [promptMs, stats]: [number, GenerationStats | undefined] = [0, undefined];
  const take = (response: EngineResponse) => {
    if (response.type !== "chunk") return;
    const { chunk } = response;
    if (chunk.type === "Error") throw new AppError(chunk.error.code, chunk.error.message);
    if (chunk.type === "PrefillProgress") promptMs = performance.now() - startedAt;
    if (chunk.type === "Finish") stats = chunk.stats;
  };
  while (engine.hasWork()) {
    for await (const [, response] of engine.step()) take(response);
  }
  if (!stats) throw notMeasured("the answer had no end");
  return { stats, promptTokens, promptMs };
}

function notMeasured(found: string): AppError {
  return new AppError("internal", `Cannot measure the engine: ${found}`, {
    hint: "ask for other lengths with --pp and --tg",
  });
}

/** Several sequences in each step, which the decoder can do and the engine does not yet. */
function measureAtOnce({ model, concurrency, tg, shortPp }: EngineTask) {
  if (concurrency.length === 0) return [];
  using opened = openModel(model);
  const figures: EngineFigures["atOnce"][number][] = [];
  for (const count of concurrency) {
    const tokensPerSecond = decodeAtOnce(opened, { count, tg, shortPp });
    figures.push({ concurrency: count, tokensPerSecond });
  }
  return figures;
}

function decodeAtOnce(
  { decoder, vocabSize }: OpenModel,
  { count, tg, shortPp }: Record<"count" | "tg" | "shortPp", number>,
): number {
  using caches = new DisposableStack();
  const sequences = Array.from({ length: count }, (_, sequence) => ({
    cache: caches.use(decoder.makeCache()),
    ids: anyIds(shortPp, { serial: sequence, vocabSize }),
  }));
  let last: number[] = [];
  for (const sequence of sequences) {
    const output = decoder.run([{ ...sequence, logitsCount: 1, draw: GREEDY }]);
    last.push(output.drawn(0).id);
  }
  const startedAt = performance.now();
  for (let token = 0; token < tg; token++) {
    const inputs = sequences.map(({ cache }, i) => ({
      cache,
      ids: [last[i] ?? 0],
      ...{ logitsCount: 1, draw: GREEDY },
    }));
    const output = decoder.run(inputs);
    last = sequences.map((_, i) => output.drawn(i).id);
  }
  return count * tg / (performance.now() - startedAt) * 1_000;
}

const say = (line: string) => Deno.stdout.writeSync(new TextEncoder().encode(`${line}\n`));

try {
  const task: EngineTask = JSON.parse(Deno.args[0] ?? "");
  const figures = await measureTurn(task);
  say(JSON.stringify({ ...figures, atOnce: measureAtOnce(task) }));
} catch (thrown) {
  const { message, hint } = toAppError(thrown);
  const text = `error: ${message}${hint === undefined ? "" : `\nhint: ${hint}`}\n`;
  Deno.stderr.writeSync(new TextEncoder().encode(text));
  Deno.exit(1);
}
