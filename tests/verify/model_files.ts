import { join } from "node:path";
import { AppError } from "../../core/errors.ts";
import { TaskId } from "../../core/ids.ts";
import type { ModelCard } from "../../core/model_card.ts";
import { TextBuilder } from "../../engines/text_builder.ts";
import { inspectModel } from "../../node/model_files.ts";
import { Random } from "../support/random.ts";
import { TempDir } from "../support/temp_dir.ts";
import { ask } from "../support/test_node.ts";

const MODELS = new URL("../golden/models/", import.meta.url).pathname;

/** Models that are mutated: a GGUF and a checkpoint folder, whole and well-formed. */
const GGUF = join(MODELS, "tiny-gguf.gguf");
const FOLDER = join(MODELS, "tiny-tied");

/** Bytes at the start of a file in which most mutations fall: its header. */
const HEADER_BYTES = 4_096;

/** Steps that an answer of a mutated model may take before it is cancelled. */
const STEPS_MAX = 20;

/** What became of mutated files. */
export interface ModelFuzzReport {
  /** Refused with an error of ours, when they were added or when they were loaded. */
  refused: number;
  /** Answered, as a file does whose weights alone were changed. */
  answered: number;
  /** Anything else: the mutation that shows it, and what was thrown. */
  readonly findings: string[];
}

/** Mutates model files; each is refused by an `AppError`, or loads and answers. */
export async function fuzzModels(seed: number, files: number): Promise<ModelFuzzReport> {
  const random = new Random(seed);
  const report: ModelFuzzReport = { refused: 0, answered: 0, findings: [] };
  await using dir = await TempDir.make();
  for (let n = 0; n < files; n++) {
    const path = await mutated(random, dir.path);
    try {
      const { modelCard } = await inspectModel(path);
      await answer(path, modelCard);
      report.answered++;
    } catch (thrown) {
      if (thrown instanceof AppError) report.refused++;
      else report.findings.push(`seed ${seed}, file ${n}: ${String(thrown).slice(0, 300)}`);
    }
  }
  return report;
}

/** Loads the model and asks it something. @throws {AppError} when it cannot be used. */
async function answer(modelPath: string, modelCard: ModelCard): Promise<void> {
  const shard = {
    type: "PipelineShardMetadata" as const,
    modelCard,
    deviceRank: 0,
    worldSize: 1,
    startLayer: 0,
    endLayer: modelCard.nLayers,
    nLayers: modelCard.nLayers,
  };
  const builder = new TextBuilder();
  try {
    for (const _ of builder.load({ shard, modelPath, config: {} }));
    const engine = builder.build();
    try {
      const taskId = TaskId.parse("t");
      engine.submit({ taskId, payload: ask("hello", { maxTokens: 2 }) });
      for (let step = 0; engine.hasWork(); step++) {
        if (step === STEPS_MAX) engine.cancel(taskId);
        for await (const _ of engine.step());
      }
    } finally {
      engine.close();
    }
  } finally {
    builder.close();
  }
}

/** A copy of a model with a few bytes changed, cut off or added. */
async function mutated(random: Random, folder: string): Promise<string> {
  if (random.next() < 0.5) {
    const path = join(folder, "model.gguf");
    await Deno.writeFile(path, mutateBytes(random, await Deno.readFile(GGUF)));
    return path;
  }
  const path = join(folder, "model");
  await Deno.mkdir(path, { recursive: true });
  const names: string[] = [];
  for await (const { name } of Deno.readDir(FOLDER)) names.push(name);
  const victim = random.pick(names.sort());
  for (const name of names) {
    const bytes = await Deno.readFile(join(FOLDER, name));
    await Deno.writeFile(join(path, name), name === victim ? mutateBytes(random, bytes) : bytes);
  }
  return path;
}

function mutateBytes(random: Random, bytes: Uint8Array): Uint8Array {
  const copy = bytes.slice();
  const kind = random.next();
  if (kind < 0.1) return copy.subarray(0, random.below(copy.length));
  if (kind < 0.15) return new Uint8Array([...copy, ...copy.subarray(0, 64)]);
  const reach = random.next() < 0.8 ? Math.min(HEADER_BYTES, copy.length) : copy.length;
  for (let times = 1 + random.below(4); times > 0; times--) {
    const odd = random.pick([0, 1, 0x20, 0x7f, 0x80, 0xff, random.below(256)]);
    copy[random.below(reach)] = odd;
  }
  return copy;
}
