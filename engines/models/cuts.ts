import { AppError } from "../../core/errors.ts";
import { type Cut, type IndexRange, shareOf, type WeightCuts, WHOLE } from "../mlx/weight_cuts.ts";
import type { Wording } from "../mlx/wording.ts";
import {
  extentOf,
  type ModelPart,
  type ModelSlice,
  splitsVocabulary,
  vocabularyOf,
} from "./part.ts";

/** What the ranks of a tensor-parallel group divide among them. */
export type Divided = "queries" | "keys" | "features";

/**
 * How the linears of a layer are cut, by their paths within it. Those cut by their outputs compute
 * some of the features; those by their inputs take these up and give parts of a sum.
 */
export type LayerCuts = Readonly<Record<string, { by: keyof Cut; of: Divided }>>;

/** What of an architecture's arguments says how it is cut. */
export interface CutShape {
  readonly layerCount: number;
  readonly vocabSize: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  /** Inner features of the MLP. */
  readonly features: number;
  readonly isTied: boolean;
  readonly linears: LayerCuts;
}

/** What cuts depend on besides the architecture. */
export interface CutOptions {
  readonly part: ModelPart;
  /** Consecutive inputs of the matrix at a path that share a scale, so that no cut parts them. */
  readonly groupOf: (path: string) => number;
  readonly wording: Wording;
}

/**
 * What a part of a decoder-only model has of its weights, under Hugging Face's names of llama.
 * @throws {AppError} `unsupported_model` when the model cannot be divided so.
 */
export function modelCuts(shape: CutShape, options: CutOptions): WeightCuts {
  const { part } = options;
  const { layers, hasEmbedding, hasHead } = extentOf(part, shape.layerCount);
  const inLayer = part.type === "slice" ? sliceCuts(shape, part, options) : () => WHOLE;
  const rows: Cut = splitsVocabulary(part)
    ? { outputs: vocabularyOf(shape.vocabSize, part) }
    : WHOLE;
  const isOwn = (layer: number) => layer >= layers.from && layer < layers.to;
  return {
    layers,
    of(name) {
      const [, layer] = /^model\.layers\.(\d+)\./.exec(name) ?? [];
      if (layer !== undefined) {
        // A layer that the model does not have has no place in any part: it is loaded, and refused.
        return isOwn(Number(layer)) || Number(layer) >= shape.layerCount
          ? inLayer(name)
          : undefined;
      }
      if (name.startsWith("model.embed_tokens.")) {
        return hasEmbedding || (hasHead && shape.isTied) ? rows : undefined;
      }
      if (name.startsWith("lm_head.")) return hasHead && !shape.isTied ? rows : undefined;
      return name.startsWith("model.norm.") && !hasHead ? undefined : WHOLE;
    },
  };
}

/** How a rank's slice cuts a tensor of a layer. */
function sliceCuts(
  shape: CutShape,
  slice: ModelSlice,
  options: CutOptions,
): (name: string) => Cut | undefined {
  requireHeads(shape, slice);
  const cuts = new Map<string, Cut>();
  for (let layer = 0; layer < shape.layerCount; layer++) {
    const at = `model.layers.${layer}`;
    for (const [path, { by, of }] of Object.entries(shape.linears)) {
      const range = rangeOf(of, { shape, slice, unit: unitOf(at, of, shape, options) });
      if (by === "inputs") requireGroups(`${at}.${path}`, range, slice, options);
      cuts.set(`${at}.${path}`, { [by]: range });
    }
  }
  return (name) => {
    const cut = cuts.get(name.replace(/\.[^.]+$/, "")) ?? WHOLE;
    if (!cut.inputs || !name.endsWith(".bias")) return cut;
    return slice.rank === 0 ? WHOLE : undefined; // One rank adds it to the sum.
  };
}

/** Features of the MLP that stay together: whole groups of the matrices that take them up. */
function unitOf(at: string, of: Divided, { linears }: CutShape, { groupOf }: CutOptions): number {
  if (of !== "features") return 1;
  const takers = Object.entries(linears).filter(([, cut]) =>
    cut.by === "inputs" && cut.of === "features"
  );
  return Math.max(1, ...takers.map(([path]) => groupOf(`${at}.${path}`)));
}

function rangeOf(
  of: Divided,
  { shape, slice, unit }: { shape: CutShape; slice: ModelSlice; unit: number },
): IndexRange {
  const { heads, kvHeads, headDim, features } = shape;
  if (of === "features") return shareOf(features, { ...slice, unit });
  return shareOf((of === "queries" ? heads : kvHeads) * headDim, slice);
}

function requireHeads({ heads, kvHeads }: CutShape, { size }: ModelSlice): void {
  if (kvHeads % size === 0) return;
  throw new AppError(
    "unsupported_model",
    `Cannot divide the model over ${size} ranks in tensor parallel: it has ${heads} heads and ` +
      `${kvHeads} KV heads, a multiple of ${size} KV heads needed`,
    { hint: PIPELINE },
  );
}

const PIPELINE = "place it as a pipeline, which divides any model: " +
  "exo instance create MODEL --sharding pipeline";

function requireGroups(
  path: string,
  { from, to }: IndexRange,
  { rank, size }: ModelSlice,
  { groupOf, wording }: CutOptions,
): void {
  const group = groupOf(path);
  if (from < to && from % group === 0 && to % group === 0) return;
  throw new AppError(
    "unsupported_model",
    `Cannot divide tensor "${wording.tensor(`${path}.weight`)}" over ${size} ranks: rank ${rank} ` +
      `gets its columns ${from} to ${to}, whole groups of ${group} needed`,
    { hint: PIPELINE },
  );
}
