/**
 * Architectures: one file each, named after the checkpoint's `model_type`. May import `core/`,
 * `ffi/`, zod and the rest of `engines/`. Read `llama.ts` first.
 *
 * @module
 */
import { z } from "zod";
import { AppError, assert } from "../../core/errors.ts";
import { firstIssue } from "../../core/issues.ts";
import { requireKnownArchitecture } from "../../core/safetensors.ts";
import { Scope } from "../../ffi/mod.ts";
import type { Weights } from "../mlx/weights.ts";
import type { Wording } from "../mlx/wording.ts";
import { llama, LlamaArgs } from "./llama.ts";
import type { TextModel } from "./text_model.ts";

/** Builds a model of one architecture from its config and weights. */
type ModelBuilder = (config: unknown, weights: Weights) => TextModel;

function of<S extends z.ZodType>(
  schema: S,
  build: (args: z.output<S>, weights: Weights) => TextModel,
): ModelBuilder {
  return (config, weights) => build(parseArgs(schema, config, weights.wording), weights);
}

const MODELS: Readonly<Record<string, ModelBuilder>> = {
  llama: of(LlamaArgs, llama),
  mistral: of(LlamaArgs, llama),
};

/** The `model_type`s that {@linkcode buildModel} knows. */
export const MODEL_TYPES: readonly string[] = Object.keys(MODELS);

function parseArgs<S extends z.ZodType>(
  schema: S,
  config: unknown,
  { noun, settings, setting }: Wording,
): z.output<S> {
  const parsed = schema.safeParse(config);
  if (parsed.success) return parsed.data;
  const issue = firstIssue(parsed.error, config);
  const [param, needed] = [setting(issue.param), setting(issue.needed)];
  throw new AppError(
    "unsupported_model",
    `Cannot build the model: found ${issue.found} as "${param}" of its ${settings}, ${needed} needed`,
    { hint: `choose a ${noun} with ${needed} as "${param}"; one that should have it, fetch again` },
  );
}

/**
 * The model that `config.json` describes, over these weights.
 * @throws {AppError} `unsupported_model` for an architecture or a setting that we do not know or
 * tensors that have no place, `corrupt_model` for tensors that are missing.
 */
export function buildModel(config: Readonly<Record<string, unknown>>, weights: Weights): TextModel {
  const type = String(config["model_type"]);
  requireKnownArchitecture(type);
  const build = MODELS[type];
  assert(build, `every known architecture has a builder, ${type} has none`);
  using _scope = new Scope(); // What is made on the way goes; what is owned by the weights stays.
  const model = build(config, weights);
  weights.requireAllUsed();
  return model;
}
