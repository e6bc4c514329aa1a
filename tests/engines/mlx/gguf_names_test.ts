import { equal } from "node:assert/strict";
import { ggufName, ggufWording, huggingFaceName } from "../../../engines/mlx/gguf_names.ts";

Deno.test("a tensor of a GGUF has a Hugging Face name, and that leads back to its own", () => {
  const names = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
    "blk.3.attn_q.weight": "model.layers.3.self_attn.q_proj.weight",
    "blk.11.ffn_norm.weight": "model.layers.11.post_attention_layernorm.weight",
    "rope_freqs.weight": "rope_freqs.weight",
    "blk.0.odd.weight": "blk.0.odd.weight",
  };
  for (const [own, ours] of Object.entries(names)) {
    equal(huggingFaceName(own), ours);
    equal(ggufName(ours), own);
  }
});

Deno.test("settings of a GGUF are told by their keys, wherever a text names them", () => {
  const { setting } = ggufWording("llama");
  equal(setting("rms_norm_eps"), "llama.attention.layer_norm_rms_epsilon");
  equal(setting("rope_scaling.factor"), "llama.rope.scaling.factor");
  equal(setting("a divisor of num_attention_heads"), "a divisor of llama.attention.head_count");
  equal(setting("an even number up to 1024"), "an even number up to 1024");
});
