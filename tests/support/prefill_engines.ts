/** Engines over a tiny model that read prompts for each other, and prompts long enough for it. */
import type { TaskId } from "../../core/ids.ts";
import type { RemotePrefillMode } from "../../core/prefill_choice.ts";
import { CpuDecoder } from "../../engines/cpu/cpu_decoder.ts";
import type { Decoder } from "../../engines/decoder.ts";
import { openCheckpoint } from "../../engines/mlx/checkpoint.ts";
import { buildModel } from "../../engines/models/mod.ts";
import { TextEngine, type TextEngineParts } from "../../engines/text_engine.ts";
import { ChatTemplate } from "../../engines/text/chat_template.ts";
import { TextTokenizer } from "../../engines/text/tokenizer.ts";
import type { KvDtype } from "../../ffi/mod.ts";
import { goldenPath, readWeights } from "../engines/golden.ts";
import { PrefillPair } from "./prefill_pair.ts";
import { ask } from "./test_node.ts";

/** What an engine of these tests is made of. */
export interface PrefillEngineOptions {
  readonly kvDtype?: KvDtype;
  readonly weights?: string;
  readonly mode?: RemotePrefillMode;
  readonly parts?: Partial<TextEngineParts>;
  /** Changes the decoder. */
  readonly over?: (decoder: CpuDecoder) => Decoder;
}

/** An engine whose clock counts the looks at it; `ensureSetup` comes before. */
export function prefillEngine(
  { kvDtype = "float16", weights = "w", mode = "always", parts = {}, over = (same) => same }:
    PrefillEngineOptions = {},
): TextEngine {
  const checkpoint = openCheckpoint(goldenPath("models/tiny-tied"));
  const loaded = readWeights(checkpoint);
  const model = buildModel(checkpoint.config, loaded);
  const tokenizer = new TextTokenizer(checkpoint.tokenizer);
  let ms = 0;
  return new TextEngine({
    vocabSize: model.vocabSize,
    decoder: over(new CpuDecoder(model, { kvDtype })),
    weights: loaded,
    tokenizer,
    template: new ChatTemplate(tokenizer.chatTemplate ?? ""),
    eosIds: new Set(),
    contextTokens: 2048,
    samplingDefaults: [],
    runningMax: 8,
    prefillChunkTokens: 256,
    kvBudgetBytes: 2 ** 30,
    prefill: { weights, mode },
    now: () => ms++,
    ...parts,
  });
}

/** A prompt of some 1,500 tokens that begins as it is told. */
export const longPrompt = (beginning: string, words = 300) =>
  ask(
    beginning + " " + Array.from({ length: words }, (_, i) => `word${(i * 7919) % 97}`).join(" "),
    { maxTokens: 12, sampling: { temperature: 0 } },
  );

/** The answer of an engine that nobody helps. */
export function answeredAlone(
  payload: ReturnType<typeof longPrompt>,
  options: PrefillEngineOptions = {},
): readonly number[] {
  const local = { ...options, parts: { ...options.parts, prefill: undefined as never } };
  using pair = new PrefillPair(prefillEngine(local), prefillEngine(local));
  return pair.answer(payload).ids;
}

/** The tokens of each request that an engine answers until it has nothing to do. */
export function answersOf(engine: TextEngine): Map<TaskId, number[]> {
  const answers = new Map<TaskId, number[]>();
  while (engine.hasWork()) {
    for (const [taskId, response] of engine.step()) {
      if (response.type !== "chunk") continue;
      const { chunk } = response;
      if (chunk.type === "Error") throw new Error(`${taskId}: ${chunk.error.message}`);
      const ids = answers.get(taskId) ?? [];
      if (chunk.type === "Token") answers.set(taskId, [...ids, chunk.tokenId]);
    }
  }
  return answers;
}
