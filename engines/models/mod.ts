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
import type { WeightCuts } from "../mlx/weight_cuts.ts";
import type { Weights } from "../mlx/weights.ts";
import type { Wording } from "../mlx/wording.ts";
import type { CutOptions } from "./cuts.ts";
import { llama, LlamaArgs, llamaCuts } from "./llama.ts";
import { type ModelPart, WHOLE_MODEL } from "./part.ts";
import type { TextModel } from "./text_model.ts";

/** What is known of an architecture. */
interface Architecture {
  /** Builds a model, or a part of one, from its config and weights. */
  readonly build: (config: unknown, weights: Weights, part: ModelPart) => TextModel;
  /** What a part of it has of its weights. */
  readonly cuts: (config: unknown, options: CutOptions) => WeightCuts;
}

function of<S extends z.ZodType>(
  schema: S,
  { build, cuts }: {
    build: (args: z.output<S>, weights: Weights, part: ModelPart) => TextModel;
    cuts: (args: z.output<S>, options: CutOptions) => WeightCuts;
  },
): Architecture {
  return {
    build: (config, weights, part) =>
      build(parseArgs(schema, config, weights.wording), weights, part),
    cuts: (config, options) => cuts(parseArgs(schema, config, options.wording), options),
  };
}

const LLAMA = of(LlamaArgs, { build: llama, cuts: llamaCuts });

const MODELS: Readonly<Record<string, Architecture>> = { llama: LLAMA, mistral: LLAMA };

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

function architectureOf(config: Readonly<Record<string, unknown>>): Architecture {
  const type = String(config["model_type"]);
  requireKnownArchitecture(type);
  const known = MODELS[type];
  assert(known, `every known architecture has a builder, ${type} has none`);
  return known;
}

/**
 * The model that `config.json` describes, or a part of it, over the weights of that part.
 * @throws {AppError} `unsupported_model` for an architecture or a setting that we do not know or
 * tensors that have no place, `corrupt_model` for tensors that are missing.
 */
export function buildModel(
  config: Readonly<Record<string, unknown>>,
  weights: Weights,
  part: ModelPart = WHOLE_MODEL,
): TextModel {
  const { build } = architectureOf(config);
  using _scope = new Scope(); // What is made on the way goes; what is owned by the weights stays.
  const model = build(config, weights, part);
  weights.requireAllUsed();
  return model;
}

/**
 * What a part of the model that `config.json` describes has of its weights.
 * @throws {AppError} `unsupported_model` when it cannot be divided so, or is none that we know.
 */
export function weightCuts(
  config: Readonly<Record<string, unknown>>,
  options: CutOptions,
): WeightCuts {
  return architectureOf(config).cuts(config, options);
}
