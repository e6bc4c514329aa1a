import { z } from "zod";
import type { ModelDetails, ModelObject } from "../api/models.ts";
import { formatBytes } from "../core/units.ts";

/** What commands print of a model that they have added or removed. */
export const MODEL_ID = z.strictObject({ modelId: z.string().describe("Whole id of the model") });

/** One model of a list. */
export const ModelView = MODEL_ID.extend({
  storageBytes: z.number().int().describe("Bytes of its weights as stored"),
  quantization: z.string().describe("As its files say, such as `Q4_1`; empty for none"),
  family: z.string().describe("Such as `llama`; empty when unknown"),
  contextLength: z.number().int().describe("Longest prompt plus answer, in tokens; 0 for unknown"),
  tasks: z.array(z.string()).readonly().describe("What it can do, such as `TextGeneration`"),
  license: z.string().describe("Such as `apache-2.0`; empty when unknown"),
  architecture: z.string().describe("Its `model_type`, such as `qwen3`; empty when unknown"),
  isSupported: z.boolean().describe("Whether an engine of this version runs it"),
  isCustom: z.boolean().describe("Whether its card was added by hand"),
  isBundled: z.boolean().describe("Whether exo brings a card of it"),
  isPlaced: z.boolean().describe("Whether it has an instance, ready or not"),
  downloadedOn: z.array(z.string()).readonly().describe("Nodes that have its files"),
});
export type ModelView = z.infer<typeof ModelView>;

/** One model with all that its card says. */
export const Details = ModelView.extend({
  baseModel: z.string().describe("What its variants have in common; empty when unknown"),
  layers: z.number().int().describe("Layers, which nodes may share"),
  hiddenSize: z.number().int().describe("Width of what passes from layer to layer"),
  kvHeads: z.number().int().nullable().describe("Heads of keys and values; null when unknown"),
  kvBytesPerToken: z.number().int().nullable()
    .describe("Bytes that a token's keys and values take, unquantised; null when unknown"),
  capabilities: z.array(z.string()).readonly().describe("Such as `thinking` or `vision`"),
  reasoningDialect: z.string().describe("How earlier reasoning is kept in the history"),
  backends: z.array(z.string()).readonly().describe("A node that runs it offers one of these"),
  supportsTensor: z.boolean().describe("Whether nodes may share its layers' tensors"),
  samplingDefaults: z.record(z.string(), z.unknown()).nullable()
    .describe("Sampling where a request says nothing; null for exo's own"),
  isGated: z.boolean().describe("Whether its publisher has to admit whoever fetches it"),
  tested: z.string().nullable().describe("In what form it was tried with exo; null for in none"),
});
export type Details = z.infer<typeof Details>;

/** A model as the command line tells of it. */
export function viewOf(object: ModelObject): ModelView {
  return {
    modelId: object.id,
    storageBytes: object.storage_size_bytes,
    quantization: object.quantization,
    family: object.family,
    contextLength: object.context_length,
    tasks: object.tasks,
    license: object.license,
    architecture: object.architecture,
    isSupported: object.is_supported,
    isCustom: object.is_custom,
    isBundled: object.is_bundled,
    isPlaced: object.running,
    downloadedOn: object.downloaded_on,
  };
}

/** The same with what only its card tells. */
export function detailsOf(object: ModelDetails): Details {
  const card = object.model_card;
  return {
    ...viewOf(object),
    baseModel: card.baseModel,
    layers: card.nLayers,
    hiddenSize: card.hiddenSize,
    kvHeads: card.numKeyValueHeads ?? null,
    kvBytesPerToken: card.kvBytesPerToken ?? null,
    capabilities: card.capabilities,
    reasoningDialect: card.reasoningDialect,
    backends: card.backends,
    supportsTensor: card.supportsTensor,
    samplingDefaults: card.samplingDefaults ?? null,
    isGated: card.gated ?? false,
    tested: card.tested ?? null,
  };
}

/** The columns of {@linkcode rowOf}. */
export const HEAD = ["MODEL", "SIZE", "QUANTIZATION", "CONTEXT", "PLACED", "CARD"];

/** A model as a row of the list. */
export function rowOf(view: ModelView): string[] {
  return [
    view.modelId,
    formatBytes(view.storageBytes),
    view.quantization || "none",
    view.contextLength > 0 ? String(view.contextLength) : "unknown",
    view.isPlaced ? "yes" : "no",
    cardOf(view),
  ];
}

/** Whose card holds; one of the user's comes before that of exo. */
function cardOf({ isCustom, isBundled }: ModelView): string {
  if (!isCustom) return isBundled ? "bundled" : "of its instance";
  return isBundled ? "own, shadows bundled" : "own";
}

/** What a person is told of a model: names and values, without what is not known. */
export function linesOf(details: Details): [string, string][] {
  const { kvBytesPerToken: kvBytes, kvHeads, contextLength, license, tested } = details;
  const kind = details.architecture === "" ? "makes pictures" : `knows ${details.architecture}`;
  const runs = details.isSupported ? "yes" : `no engine of this version ${kind}`;
  const sampling = details.samplingDefaults && samplingLine(details.samplingDefaults);
  const lines: [string, string | false | null][] = [
    ["model", details.modelId],
    ["size", formatBytes(details.storageBytes)],
    ["quantization", details.quantization || "none"],
    ["family", details.family || "unknown"],
    ["architecture", details.architecture || "unknown"],
    ["runs here", runs],
    ["tested", tested ?? "no"],
    ["layers", `${details.layers}, ${details.hiddenSize} wide`],
    ["KV heads", kvHeads !== null && String(kvHeads)],
    ["KV of a token", kvBytes !== null && `${formatBytes(kvBytes)} unquantised`],
    ["context", contextLength > 0 ? `${contextLength} tokens` : "unknown"],
    ["tasks", details.tasks.join(", ")],
    ["capabilities", details.capabilities.join(", ")],
    ["sharding", details.supportsTensor ? "pipeline, tensor" : "pipeline"],
    ["backends", details.backends.join(", ")],
    ["sampling", sampling],
    ["license", license + (details.isGated ? ", to be accepted at its publisher" : "")],
    ["card", cardOf(details)],
    ["placed", details.isPlaced ? "yes" : "no"],
    ["files on", details.downloadedOn.join(", ") || "no node"],
  ];
  return lines.flatMap(([name, value]) => (value ? [[name, value]] : []));
}

/** `temperature 0.6, topP 0.95; nonThinking: temperature 0.7`. */
function samplingLine(table: Readonly<Record<string, unknown>>): string {
  const entries = Object.entries(table);
  const plain = entries.filter(([, value]) => typeof value !== "object");
  const tables = entries.filter(([, value]) => typeof value === "object");
  return [
    plain.map(([name, value]) => `${name} ${value}`).join(", "),
    ...tables.map(([name, inner]) => `${name}: ${samplingLine(Object(inner))}`),
  ].join("; ");
}
