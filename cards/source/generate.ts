/**
 * Writes `cards/*.toml` from `models.toml`: `deno run -A cards/source/generate.ts`. May import
 * `core/`, zod and smol-toml.
 *
 * @module
 */
import { parse, stringify } from "smol-toml";
import { z } from "zod";
import { normalizedId } from "../../core/model_card.ts";
import { kvBytesPerToken } from "../../core/safetensors.ts";
import { GIB } from "../../core/units.ts";
import { architectureFields, parameterCount, weightBytes } from "./weights.ts";

const FOLDER = new URL("..", import.meta.url);

const Row = z.strictObject({
  ids: z.string(),
  base: z.string(),
  family: z.string(),
  license: z.string().optional(),
  gated: z.boolean().optional(),
  tested: z.string().optional(),
  model_type: z.string(),
  quantization: z.array(z.string()).optional(),
  gib: z.array(z.number()).optional(),
  kv_layers: z.int().optional(),
  latent: z.int().optional(),
  context: z.int(),
  caps: z.string().regex(/^T?t?V?C?$/).default(""),
  dialect: z.string().optional(),
  sampling: z.string().optional(),
  vision: z.strictObject({ weights_repo: z.string(), processor_repo: z.string() }).optional(),
  ...architectureFields,
});
type Row = z.output<typeof Row>;

const ImageRow = z.strictObject({
  ids: z.string(),
  base: z.string(),
  kind: z.string(),
  license: z.string(),
  is_edit: z.boolean().default(false),
});

const Kind = z.strictObject({
  gib: z.array(z.number()),
  blocks: z.int(),
  uses_cfg: z.boolean(),
  transformer_gib: z.array(z.number()),
  encoders: z.array(
    z.strictObject({ name: z.string(), layers: z.int(), gib: z.number().optional() }),
  ),
});

const Source = z.strictObject({
  text: z.array(Row),
  image: z.array(ImageRow),
  kinds: z.record(z.string(), Kind),
});

/** Quantisations of the variants of each image model. */
const IMAGE_QUANTIZATIONS = ["", "8bit", "4bit"];

/** The picture's place in the vocabulary of Kimi, and how its encoder is called. */
const KIMI_VISION = { image_token_id: 163_605, model_type: "kimi_vl" };

const CAPABILITIES = { T: "thinking", t: "thinking_toggle", V: "vision", C: "code" };

const SAMPLING = {
  t: "temperature",
  p: "top_p",
  k: "top_k",
  m: "min_p",
  r: "repetition_penalty",
  pp: "presence_penalty",
};

const SUB_TABLES = { nt: "non_thinking", th: "thinking" };

/** A card as its file says it. */
type Fields = Record<string, unknown>;

/** The files of all cards: their names and what they hold. */
export function renderCards(source: string): Map<string, string> {
  const { text, image, kinds } = Source.parse(parse(source));
  const cards = [
    ...text.flatMap((row) => variants(row.ids).map((id, at) => textCard(row, id, at))),
    ...image.flatMap((row) => {
      const kind = kinds[row.kind];
      if (!kind) throw new Error(`no kind ${row.kind}`);
      return variants(row.ids).map((id, at) => imageCard({ ...row, ...kind }, id, at));
    }),
  ];
  return new Map(
    cards.map((card) => [`${normalizedId(String(card["model_id"]))}.toml`, write(card)]),
  );
}

/** `a-x` and `a-y` of `a-{x,y}`. */
function variants(ids: string): string[] {
  const [, start = ids, inner = "", end = ""] = /^(.*)\{(.*)\}(.*)$/.exec(ids) ?? [];
  return inner === "" ? [start] : inner.split(",").map((one) => `${start}${one}${end}`);
}

function textCard(row: Row, id: string, at: number): Fields {
  const quantization = (row.quantization ?? variants(row.ids).map(lastPart))[at] ?? "";
  return {
    model_id: id,
    base_model: row.base,
    family: row.family,
    quantization,
    architecture: row.model_type,
    n_layers: row.layers,
    hidden_size: row.hidden,
    num_key_value_heads: row.kv_heads,
    supports_tensor: true,
    context_length: row.context,
    kv_bytes_per_token: kvBytes(row),
    tasks: ["TextGeneration"],
    backends: ["MlxMetal", "MlxCuda", "MlxCpu"],
    capabilities: ["text", ...picked(row.caps, CAPABILITIES)],
    reasoning_dialect: row.dialect,
    license: row.license,
    gated: row.gated,
    tested: row.tested,
    storage_size: { in_bytes: storageBytes(row, quantization, at) },
    sampling_defaults: row.sampling === undefined ? undefined : samplingOf(row.sampling),
    vision: row.vision && { ...KIMI_VISION, ...row.vision },
  };
}

/** `4bit` of `org/model-4bit`. */
function lastPart(id: string): string {
  return id.slice(id.lastIndexOf("-") + 1);
}

/** Computed where the row tells the whole architecture; else the size that others list. */
function storageBytes(row: Row, quantization: string, at: number): number {
  const parameters = parameterCount(row);
  if (parameters !== undefined) return weightBytes(parameters, quantization);
  const gib = row.gib?.[at];
  if (gib === undefined) throw new Error(`no size of ${row.ids}`);
  return Math.round(gib * GIB);
}

/** Undefined for layers of several kinds, which a number of heads and a width do not describe. */
function kvBytes({ layers, kv_layers = layers, kv_heads, head_dim, latent }: Row) {
  if (latent !== undefined) return kv_layers * latent * Float32Array.BYTES_PER_ELEMENT;
  if (head_dim === undefined) return undefined;
  return kvBytesPerToken({ layers: kv_layers, kvHeads: kv_heads, headDim: head_dim });
}

function picked(letters: string, names: Readonly<Record<string, string>>): string[] {
  return [...letters].map((letter) => names[letter] ?? letter);
}

/** `t0.6 p0.95; nt t0.7` as a table with a sub-table. */
function samplingOf(text: string): Fields {
  const tables = text.split(";").map((part) => {
    const words = part.trim().split(" ");
    const name = Object.entries(SUB_TABLES).find(([short]) => short === words[0])?.[1];
    const values = Object.fromEntries(words.slice(name ? 1 : 0).map(valueOf));
    return name ? { [name]: values } : values;
  });
  return Object.assign({}, ...tables);
}

function valueOf(word: string): [string, number] {
  const [, short = "", value = ""] = /^([a-z]+)([\d.]+)$/.exec(word) ?? [];
  const name = Object.entries(SAMPLING).find(([one]) => one === short)?.[1];
  if (name === undefined) throw new Error(`no sampling field in "${word}"`);
  return [name, Number(value)];
}

function imageCard(row: z.output<typeof ImageRow> & z.output<typeof Kind>, id: string, at: number) {
  const folder = (name: string) => ({ component_name: name, component_path: `${name}/` });
  const size = (gib = 0) => ({ in_bytes: Math.round(gib * GIB) });
  return {
    model_id: id,
    base_model: row.base,
    family: row.kind,
    quantization: IMAGE_QUANTIZATIONS[at],
    n_layers: row.blocks,
    hidden_size: 1,
    supports_tensor: false,
    tasks: [row.is_edit ? "ImageToImage" : "TextToImage"],
    backends: ["MlxMetal"],
    capabilities: [row.is_edit ? "image_edit" : "image_gen"],
    uses_cfg: row.uses_cfg,
    license: row.license,
    storage_size: size(row.gib[at]),
    components: [
      ...row.encoders.map(({ name, layers, gib }) => ({
        ...folder(name),
        n_layers: layers,
        can_shard: false,
        storage_size: size(gib),
      })),
      {
        ...folder("transformer"),
        n_layers: row.blocks,
        can_shard: true,
        safetensors_index_filename: "diffusion_pytorch_model.safetensors.index.json",
        storage_size: size(row.transformer_gib[at]),
      },
      { ...folder("vae"), can_shard: false, storage_size: size() },
    ],
  };
}

/** TOML; fields without a value are left out. */
function write(card: Fields): string {
  const given = Object.entries(card).filter(([, value]) => value !== undefined);
  return `${stringify(Object.fromEntries(given)).trimEnd()}\n`;
}

if (import.meta.main) {
  const cards = renderCards(await Deno.readTextFile(new URL("models.toml", import.meta.url)));
  for await (const { name } of Deno.readDir(FOLDER)) {
    if (name.endsWith(".toml") && !cards.has(name)) await Deno.remove(new URL(name, FOLDER));
  }
  for (const [name, text] of cards) await Deno.writeTextFile(new URL(name, FOLDER), text);
}
