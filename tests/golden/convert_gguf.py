"""Converts a llama GGUF into a Hugging Face folder with f32 scales, which mlx-lm can load.

mx.load() already turns Q4_0, Q4_1 and Q8_0 blocks into MLX's affine quantisation, bit for bit.
Left to do: rename the tensors, undo llama.cpp's row permutation of Q and K, say how many bits each
module has, and rebuild the tokenizer from the vocabulary and the merges. f32, because MLX on CPU
takes hours over f16 scales.
"""

import json
from pathlib import Path

import mlx.core as mx
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

TOP = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
BLOCK = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}
CONTROL = 3  # llama.cpp's token type of special tokens
GROUP = 32


def hf_name(name):
    stem, kind = name.rsplit(".", 1)
    if stem in TOP:
        return f"{TOP[stem]}.{kind}"
    _, layer, part = stem.split(".")
    return f"model.layers.{layer}.{BLOCK[part]}.{kind}"


def unpermute(a, heads):
    """A GGUF head's rows run (half, 2); Hugging Face's run (2, half)."""
    rows, cols = a.shape
    return a.reshape(heads, rows // heads // 2, 2, cols).swapaxes(1, 2).reshape(rows, cols)


def gguf_tokenizer(meta):
    """The byte-level BPE tokenizer of a GGUF whose pre-tokenizer is `smollm`."""
    tokens, merges = meta["tokenizer.ggml.tokens"], meta["tokenizer.ggml.merges"]
    vocab = {t: i for i, t in enumerate(tokens)}
    tok = Tokenizer(models.BPE(vocab=vocab, merges=[tuple(x.split(" ", 1)) for x in merges]))
    tok.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tok.decoder = decoders.ByteLevel()
    types = meta["tokenizer.ggml.token_type"].tolist()
    special = [t for t, kind in zip(tokens, types) if kind == CONTROL]
    tok.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special])
    return tok


def convert(gguf, out):
    """Writes the folder `out`; returns the GGUF's metadata."""
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    tensors, meta = mx.load(str(gguf), return_metadata=True)

    def m(key, default=None):
        v = meta.get(key, default)
        return v.item() if isinstance(v, mx.array) and v.size == 1 else v

    assert m("general.architecture") == "llama", "only llama files"
    heads, hidden = m("llama.attention.head_count"), m("llama.embedding_length")
    kv_heads = m("llama.attention.head_count_kv", heads)
    weights, modules = {}, {}
    for name, a in tensors.items():
        new = hf_name(name)
        stem = new.rsplit(".", 1)[0]
        if stem.endswith("q_proj"):
            a = unpermute(a, heads)
        elif stem.endswith("k_proj"):
            a = unpermute(a, kv_heads)
        if a.dtype == mx.uint32:
            groups = tensors[name.rsplit(".", 1)[0] + ".scales"].shape[-1]
            modules[stem] = {"group_size": GROUP, "bits": a.shape[-1] * 32 // (groups * GROUP)}
        else:
            a = a.astype(mx.float32)
        weights[new] = a
    votes = list(modules.values())
    bits = max(votes, key=votes.count)
    quantization = {**bits, **{k: q for k, q in modules.items() if q != bits}}
    eos, bos = m("tokenizer.ggml.eos_token_id"), m("tokenizer.ggml.bos_token_id")
    config = {
        "model_type": "llama",
        "hidden_size": hidden,
        "intermediate_size": m("llama.feed_forward_length"),
        "num_hidden_layers": m("llama.block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": m("llama.rope.dimension_count", hidden // heads),
        "rms_norm_eps": m("llama.attention.layer_norm_rms_epsilon"),
        "rope_theta": float(m("llama.rope.freq_base", 10000.0)),
        "max_position_embeddings": m("llama.context_length"),
        "vocab_size": len(meta["tokenizer.ggml.tokens"]),
        "tie_word_embeddings": "lm_head.weight" not in weights,
        "eos_token_id": eos,
        "bos_token_id": bos,
        "quantization": quantization,
    }
    mx.save_safetensors(str(out / "model.safetensors"), weights, metadata={"format": "mlx"})
    (out / "config.json").write_text(json.dumps(config))
    gguf_tokenizer(meta).save(str(out / "tokenizer.json"))
    return meta
