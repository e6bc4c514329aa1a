import { z } from "zod";
import { boundedArray, boundedCounts } from "./bounded.ts";
import { ErrorInfo } from "./errors.ts";
import { InstanceId, NodeId } from "./ids.ts";
import { type Ring, RING_BYTES_MAX, RING_BYTES_MIN } from "./ring.ts";

/** Most tokens of a prompt that another instance prefills. */
export const PREFILL_TOKENS_MAX = 4_194_304;

/** Highest id of a token: ids travel as u32. */
const TOKEN_ID_MAX = 2 ** 32 - 1;

/** Most layers of a model whose keys and values travel. */
const LAYERS_MAX = 4_096;

/** Who may prefill a prompt: an instance, and the node of its first rank. */
export const PrefillSource = z.object({ instanceId: InstanceId, nodeId: NodeId });
export type PrefillSource = z.infer<typeof PrefillSource>;

/** How fast the other instance reads, and the link to it carries, as far as that is known. */
export const PrefillRates = z.object({
  tokensPerSecond: z.number().positive().optional(),
  bitsPerSecond: z.number().positive().optional(),
});
export type PrefillRates = z.infer<typeof PrefillRates>;

const count = z.number().int().min(0).max(PREFILL_TOKENS_MAX);

/** What keys and values mean: two engines that agree in it can use each other's, bit by bit. */
export const KvFingerprint = z.object({
  /** Of the model's files. */
  weights: z.string().min(1).max(256),
  /** How a block is laid out. */
  layout: z.string().min(1).max(64),
  /** Type of a cached key or value. */
  kvType: z.string().min(1).max(32),
  blockPositions: z.number().int().min(1).max(65_536),
  layers: boundedArray(
    z.object({
      kvHeads: z.number().int().min(1),
      keyDim: z.number().int().min(1),
      valueDim: z.number().int().min(1),
    }),
    LAYERS_MAX,
    1,
  ),
});
export type KvFingerprint = z.infer<typeof KvFingerprint>;

/** A prompt for another instance, whose keys and values are wanted from `startPos` to `stopPos`. */
export const PrefillRequest = z.object({
  /** The prompt's beginning, up to one token behind `stopPos`. */
  tokenIds: boundedCounts(TOKEN_ID_MAX, PREFILL_TOKENS_MAX),
  /** What the asker has already; both are multiples of a block. */
  startPos: count,
  stopPos: count,
  fingerprint: KvFingerprint,
});
export type PrefillRequest = z.infer<typeof PrefillRequest>;

/** A file that one side fills over and over and the other empties. */
export const RingFile = z.object({
  path: z.string().min(1).max(4_096),
  bytes: z.number().int().min(RING_BYTES_MIN).max(RING_BYTES_MAX),
}) satisfies z.ZodType<Ring>;
export type RingFile = z.infer<typeof RingFile>;

/** No more bytes come, or are wanted; `error` says why if that is not because all is there. */
export const PrefillEnd = z.object({ error: ErrorInfo.optional() });
export type PrefillEnd = z.infer<typeof PrefillEnd>;

/** From the first up to, not including, the second. */
const range = z.tuple([count, count]);

/**
 * What travels, as frames of `core/frame_codec.ts`: a header, then for each chunk of the prompt the
 * blocks of every layer in turn, as soon as they are computed, and one last word.
 */
export const PrefillRecord = z.discriminatedUnion("type", [
  z.object({
    type: z.literal("Header"),
    fingerprint: KvFingerprint,
    positions: range,
    /** What the sender holds of the model: all, or the part of a rank. */
    layers: range,
    /** Of the KV heads; absent: all. */
    heads: range.optional(),
  }),
  /** Its body: `count` blocks of a layer, from block `first` of the prompt on. */
  z.object({ type: z.literal("Blocks"), layer: count, first: count, count }),
  z.object({ type: z.literal("Done"), stopPos: count }),
  z.object({ type: z.literal("Failed"), error: ErrorInfo }),
]);
export type PrefillRecord = z.infer<typeof PrefillRecord>;

/** What differs between two fingerprints, in words; undefined when nothing does. */
export function differenceOf(own: KvFingerprint, other: KvFingerprint): string | undefined {
  const fields = ["weights", "layout", "kvType", "blockPositions"] as const;
  const field = fields.find((name) => own[name] !== other[name]);
  if (field) return `${field} is ${other[field]}, ${own[field]} needed`;
  if (own.layers.length !== other.layers.length) {
    return `it has ${other.layers.length} layers, ${own.layers.length} needed`;
  }
  const layer = own.layers.findIndex((one, i) => textOf(one) !== textOf(other.layers[i]));
  if (layer < 0) return undefined;
  return `layer ${layer} has ${textOf(other.layers[layer])}, ${textOf(own.layers[layer])} needed`;
}

function textOf(layer: KvFingerprint["layers"][number] | undefined): string {
  return `${layer?.kvHeads} KV heads of ${layer?.keyDim} and ${layer?.valueDim}`;
}
