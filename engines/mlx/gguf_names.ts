import { GGUF_KEYS } from "../text/gguf_file.ts";
import type { Wording } from "./wording.ts";

const TOP: Readonly<Record<string, string>> = {
  token_embd: "model.embed_tokens",
  output_norm: "model.norm",
  output: "lm_head",
};

const BLOCK: Readonly<Record<string, string>> = {
  attn_q: "self_attn.q_proj",
  attn_k: "self_attn.k_proj",
  attn_v: "self_attn.v_proj",
  attn_output: "self_attn.o_proj",
  ffn_gate: "mlp.gate_proj",
  ffn_up: "mlp.up_proj",
  ffn_down: "mlp.down_proj",
  attn_norm: "input_layernorm",
  ffn_norm: "post_attention_layernorm",
};

/** `model.layers.3.self_attn.q_proj.weight` of `blk.3.attn_q.weight`; others stay as they are. */
export function huggingFaceName(name: string): string {
  const [, stem = "", kind = ""] = /^(.*)\.([^.]+)$/.exec(name) ?? [];
  const top = TOP[stem];
  if (top) return `${top}.${kind}`;
  const [, layer, part = ""] = /^blk\.(\d+)\.(.+)$/.exec(stem) ?? [];
  const inBlock = BLOCK[part];
  return layer && inBlock ? `model.layers.${layer}.${inBlock}.${kind}` : name;
}

/** The way back: `blk.3.attn_q.weight` of `model.layers.3.self_attn.q_proj.weight`. */
export function ggufName(name: string): string {
  const [, stem = "", kind = ""] = /^(.*)\.([^.]+)$/.exec(name) ?? [];
  const top = keyOf(TOP, stem);
  if (top) return `${top}.${kind}`;
  const [, layer, part = ""] = /^model\.layers\.(\d+)\.(.+)$/.exec(stem) ?? [];
  const inBlock = keyOf(BLOCK, part);
  return layer && inBlock ? `blk.${layer}.${inBlock}.${kind}` : name;
}

function keyOf(table: Readonly<Record<string, string>>, value: string): string | undefined {
  return Object.entries(table).find(([, found]) => found === value)?.[0];
}

/** The words for a GGUF file of this architecture, which has neither weights nor a config apart. */
export function ggufWording(architecture: string): Wording {
  return {
    noun: "GGUF file",
    settings: "metadata",
    mixed: "fetch the file again, or one by another publisher: " +
      "its metadata and its tensors do not fit together",
    tensor: ggufName,
    setting: (text) =>
      text.replace(/[a-z]+(?:[_.][a-z]+)+/g, (name) => {
        const key = GGUF_KEYS.get(name);
        return key === undefined ? name : `${architecture}.${key}`;
      }),
  };
}
