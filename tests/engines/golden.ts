import { fileURLToPath } from "node:url";
import { gunzipSync } from "node:zlib";
import type { GgufHeader, GgufValue } from "../../core/gguf.ts";
import { GgufMetadata } from "../../core/gguf_metadata.ts";
import { GgufStrings } from "../../core/gguf_strings.ts";
import { ModelId, TaskId } from "../../core/ids.ts";
import type { ModelCard } from "../../core/model_card.ts";
import { modelCardFromConfig } from "../../core/safetensors.ts";
import type { TextGenerationPayload } from "../../core/task.ts";
import { usesCpuKernels } from "../../engines/decoder.ts";
import type { BoundModel, GenerationTask } from "../../engines/engine.ts";
import { type Checkpoint, openCheckpoint } from "../../engines/mlx/checkpoint.ts";
import { loadWeights } from "../../engines/mlx/loader.ts";
import type { Weights } from "../../engines/mlx/weights.ts";
import { buildModel } from "../../engines/models/mod.ts";
import { type ModelPart, WHOLE_MODEL } from "../../engines/models/part.ts";
import type { TextModel } from "../../engines/models/text_model.ts";
import { readGgufHeader } from "../../engines/text/gguf_file.ts";
import { tokenizerFromGguf } from "../../engines/text/gguf_tokenizer.ts";
import { TextTokenizer } from "../../engines/text/tokenizer.ts";

/** Where the SmolLM2 GGUF lies on this machine; tests that need it are skipped without. */
export const SMOLLM2 = Deno.env.get("EXO_TEST_SMOLLM2_GGUF");

/** The tiny models of `tests/golden/models/`, by their kind. */
export const TINY_FOLDERS: readonly string[] = [
  "tiny-tied",
  "tiny-untied",
  "tiny-llama3",
  "tiny-sharded",
  "tiny-bf16",
  "tiny-quantized",
  "tiny-window",
  "tiny-mixed-window",
];
export const TINY_GGUFS: readonly string[] = ["tiny-gguf", "tiny-gguf-llama3"];

/** The path of a file under `tests/golden/`. */
export function goldenPath(name: string): string {
  return fileURLToPath(new URL(`../golden/${name}`, import.meta.url));
}

// deno-lint-ignore no-explicit-any -- Each test knows the shape of its fixture.
export function goldenJson(name: string): any {
  return JSON.parse(Deno.readTextFileSync(goldenPath(name)));
}

/** What the reference says to one prompt. */
export interface ParityCase {
  readonly name: string;
  readonly tokenIds: readonly number[];
  readonly greedy: readonly number[];
  /** Between the likeliest two tokens, for each of `greedy`. */
  readonly margins: readonly number[];
  /** At the last position of the prompt, [V]. */
  readonly logits: Float32Array;
}

/** A recording of `tests/golden/parity/`. */
export function parityCases(name: string): ParityCase[] {
  const { cases, step, vocabSize } = goldenJson(`parity/${name}.json`);
  const bytes = gunzipSync(Deno.readFileSync(goldenPath(`parity/${name}.logits.gz`)));
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return (cases as Omit<ParityCase, "logits">[]).map((recorded, row) => ({
    ...recorded,
    logits: Float32Array.from(
      { length: vocabSize },
      (_, i) => view.getInt16(2 * (row * vocabSize + i), true) * step,
    ),
  }));
}

/** The tokenizer that GGUF metadata describe. */
export function tokenizerOf(metadata: Record<string, unknown>): TextTokenizer {
  const entries = Object.entries(metadata).filter(([, value]) => value !== undefined)
    .map(([key, value]): [string, GgufValue] => [key, asInHeader(value)]);
  const header: GgufHeader = {
    version: 3,
    metadata: new Map(entries),
    tensors: [],
    dataOffset: 0,
    alignment: 32,
  };
  return new TextTokenizer(tokenizerFromGguf(new GgufMetadata(header, "fixture")));
}

/** A value as a header has it, where lists of strings are not decoded yet. */
function asInHeader(value: unknown): GgufValue {
  const isStrings = Array.isArray(value) && value.every((one) => typeof one === "string");
  return isStrings ? GgufStrings.of(value) : value as GgufValue;
}

/** The tokenizer of a GGUF file. */
export function ggufTokenizer(path: string): TextTokenizer {
  return new TextTokenizer(tokenizerFromGguf(new GgufMetadata(readGgufHeader(path), "fixture")));
}

/** The weights of a checkpoint in memory, which the test frees. */
export function readWeights(
  checkpoint: Checkpoint,
  isPacked = usesCpuKernels(),
  part: ModelPart = WHOLE_MODEL,
): Weights {
  const loading = loadWeights(checkpoint, part, { isPacked });
  let step = loading.next();
  while (!step.done) step = loading.next();
  return step.value;
}

/** A model in memory with its weights, which the test frees; `changes` are made to its config. */
export function loadModel(
  path: string,
  { isPacked, part, changes = {} }: {
    readonly isPacked?: boolean;
    readonly part?: ModelPart;
    readonly changes?: Readonly<Record<string, unknown>>;
  } = {},
): { model: TextModel; weights: Weights } {
  const checkpoint = openCheckpoint(path);
  // A model that is refused leaves nothing: tests that count bytes share the process.
  using loaded = new DisposableStack();
  const weights = loaded.use(readWeights(checkpoint, isPacked, part));
  const model = buildModel({ ...checkpoint.config, ...changes }, weights, part);
  loaded.move();
  return { model, weights };
}

/** A folder or file bound to a runner, whole. */
export function bind(modelPath: string, config: BoundModel["config"] = {}): BoundModel {
  const checkpoint = openCheckpoint(modelPath);
  const modelCard: ModelCard = modelCardFromConfig({
    modelId: ModelId.parse("local/test"),
    config: checkpoint.config,
    storageBytes: 1,
  });
  const nLayers = modelCard.nLayers;
  const ranks = { deviceRank: 0, worldSize: 1, startLayer: 0, endLayer: nLayers, nLayers };
  const shard = { type: "PipelineShardMetadata" as const, modelCard, ...ranks };
  return { shard, modelPath, config };
}

/** A request for one greedy answer, but for what `payload` says. */
export function task(
  id: string,
  content: string,
  payload: Partial<TextGenerationPayload> = {},
): GenerationTask {
  return {
    taskId: TaskId.parse(id),
    payload: {
      messages: [{ role: "user", content }],
      sampling: { temperature: 0 },
      stop: [],
      seed: "1",
      ...payload,
    },
  };
}
