"""Makes the tiny random-weight models that the parity tests load, from a fixed seed.

Each is a complete checkpoint: config, generation config, tokenizer with chat template, safetensors
(or one GGUF).
"""

import json
import math
from pathlib import Path

import gguf
import mlx.core as mx
import numpy as np
from gguf import GGMLQuantizationType as Q
from gguf.quants import dequantize, quantize
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

SEED = 20_260_101
VOCAB = 320
GROUP = 32
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
CORPUS = (
    "The quick brown fox jumps over the lazy dog. A tiny model has tiny words, and the words "
    "are made of bytes.\n"
    "There is a river in the valley; there are trees on the hill. What is the name of the "
    "river? The river has no name.\n"
    "One and two are three, three and four are seven. The cat sat on the mat, and then the "
    "rat sat on the cat."
)
TEMPLATE = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content']"
    " + '<|im_end|>\\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
BASE = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "max_position_embeddings": 2048,
    "vocab_size": VOCAB,
    "tie_word_embeddings": True,
    "attention_bias": False,
    "mlp_bias": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


def prompts():
    rng = np.random.default_rng(SEED)
    return {f"{n}-tokens": rng.integers(3, VOCAB, n).tolist() for n in (1, 7, 40, 300)}


PROMPTS = prompts()


def make_tokenizer():
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tok.decoder = decoders.ByteLevel()
    special = [AddedToken(t, special=True, normalized=False) for t in SPECIAL]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tok.train_from_iterator(
        [CORPUS],
        trainers.BpeTrainer(
            vocab_size=VOCAB, special_tokens=special, initial_alphabet=alphabet, show_progress=False
        ),
    )
    assert tok.get_vocab_size() == VOCAB
    return tok


def make_weights(config, seed):
    """Random weights under Hugging Face names, float32."""
    rng = np.random.default_rng(SEED + seed)
    D, M, head = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    q, kv = config["num_attention_heads"] * head, config["num_key_value_heads"] * head
    weights = {}

    def linear(name, rows, cols, bias):
        weights[f"{name}.weight"] = rng.normal(0, 1.5 / math.sqrt(cols), (rows, cols)).astype(
            np.float32
        )
        if bias:
            weights[f"{name}.bias"] = rng.normal(0, 0.2, rows).astype(np.float32)

    def norm(name):
        weights[f"{name}.weight"] = (1 + rng.normal(0, 0.1, D)).astype(np.float32)

    weights["model.embed_tokens.weight"] = rng.normal(0, 0.5, (VOCAB, D)).astype(np.float32)
    for i in range(config["num_hidden_layers"]):
        at = f"model.layers.{i}"
        for part, rows, cols in (("q", q, D), ("k", kv, D), ("v", kv, D), ("o", D, q)):
            linear(f"{at}.self_attn.{part}_proj", rows, cols, config["attention_bias"])
        for part, rows, cols in (("gate", M, D), ("up", M, D), ("down", D, M)):
            linear(f"{at}.mlp.{part}_proj", rows, cols, config["mlp_bias"])
        norm(f"{at}.input_layernorm")
        norm(f"{at}.post_attention_layernorm")
    norm("model.norm")
    if not config["tie_word_embeddings"]:
        linear("lm_head", VOCAB, D, False)
    return {k: mx.array(v) for k, v in weights.items()}


def dump(folder, name, value):
    (folder / name).write_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n")


def save_folder(folder, config, weights, shards=1):
    folder.mkdir(parents=True, exist_ok=True)
    dump(folder, "config.json", config)
    dump(
        folder,
        "generation_config.json",
        {"bos_token_id": 1, "eos_token_id": [2, 0], "temperature": 0.6, "top_p": 0.9, "top_k": 40},
    )
    make_tokenizer().save(str(folder / "tokenizer.json"), pretty=False)
    dump(
        folder,
        "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": SPECIAL[1],
            "eos_token": SPECIAL[2],
            "unk_token": SPECIAL[0],
            "add_bos_token": False,
            "chat_template": TEMPLATE,
        },
    )
    if shards == 1:
        mx.save_safetensors(str(folder / "model.safetensors"), weights, metadata={"format": "mlx"})
        return
    names, index = sorted(weights), {}
    for i in range(shards):
        file = f"model-{i + 1:05}-of-{shards:05}.safetensors"
        part = names[i::shards]
        index.update({n: file for n in part})
        mx.save_safetensors(
            str(folder / file), {n: weights[n] for n in part}, metadata={"format": "mlx"}
        )
    size = sum(w.nbytes for w in weights.values())
    dump(
        folder,
        "model.safetensors.index.json",
        {"metadata": {"total_size": size}, "weight_map": index},
    )


def quantized(weights):
    """4-bit linears and an 8-bit embedding, groups of 32, as `mlx_lm.convert` writes them."""
    out = {}
    for name, w in weights.items():
        stem = name.removesuffix(".weight")
        if w.ndim < 2:
            out[name] = w
            continue
        bits = 8 if stem == "model.embed_tokens" else 4
        out[name], out[f"{stem}.scales"], out[f"{stem}.biases"] = mx.quantize(
            w, group_size=GROUP, bits=bits
        )
    mode = {"group_size": GROUP, "bits": 4}
    return out, {**mode, "model.embed_tokens": {"group_size": GROUP, "bits": 8}}


def rope_factors(config):
    """What llama.cpp stores as rope_freqs.weight: how much slower each pair of dimensions turns."""
    s, out = config["rope_scaling"], []
    old = s["original_max_position_embeddings"]
    for i in range(0, config["head_dim"], 2):
        wavelen = 2 * math.pi * config["rope_theta"] ** (i / config["head_dim"])
        low, high = s["low_freq_factor"], s["high_freq_factor"]
        if wavelen < old / high:
            out.append(1.0)
        elif wavelen > old / low:
            out.append(s["factor"])
        else:
            smooth = (old / wavelen - low) / (high - low)
            out.append(1 / ((1 - smooth) / s["factor"] + smooth))
    return np.array(out, dtype=np.float32)


GGUF_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def gguf_name(name):
    stem = name.removesuffix(".weight")
    if stem in GGUF_NAMES:
        return GGUF_NAMES[stem] + ".weight"
    _, _, layer, part = stem.split(".", 3)
    return f"blk.{layer}.{GGUF_NAMES[part]}.weight"


def permute(w, heads):
    rows, cols = w.shape
    return w.reshape(heads, 2, rows // heads // 2, cols).swapaxes(1, 2).reshape(rows, cols)


def save_gguf(path, config, weights, types):
    """Writes a GGUF; returns the weights that it really holds, under their Hugging Face names."""
    out = gguf.GGUFWriter(str(path), "llama")
    out.add_name(path.stem)
    out.add_license("apache-2.0")
    out.add_block_count(config["num_hidden_layers"])
    out.add_context_length(config["max_position_embeddings"])
    out.add_embedding_length(config["hidden_size"])
    out.add_feed_forward_length(config["intermediate_size"])
    out.add_head_count(config["num_attention_heads"])
    out.add_head_count_kv(config["num_key_value_heads"])
    out.add_layer_norm_rms_eps(config["rms_norm_eps"])
    out.add_rope_freq_base(config["rope_theta"])
    out.add_rope_dimension_count(config["head_dim"])
    out.add_vocab_size(VOCAB)
    bpe = json.loads(make_tokenizer().to_str())["model"]
    tokens = sorted(bpe["vocab"], key=bpe["vocab"].get)
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("smollm")
    out.add_token_list(tokens)
    out.add_token_types([3 if t in SPECIAL else 1 for t in tokens])
    out.add_token_merges([" ".join(m) for m in bpe["merges"]])
    out.add_bos_token_id(1)
    out.add_eos_token_id(2)
    out.add_add_bos_token(False)
    out.add_chat_template(TEMPLATE)
    held = {}
    for name, w in weights.items():
        w = np.array(w.astype(mx.float32))
        kind = (
            next((t for part, t in types.items() if part in name), Q.F32) if w.ndim == 2 else Q.F32
        )
        heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
        n = next((h for part, h in heads.items() if part in name), None)
        blocks = quantize(w if n is None else permute(w, n), kind)
        out.add_tensor(gguf_name(name), blocks, raw_dtype=kind)
        held[name] = mx.array(dequantize(quantize(w, kind), kind).astype(np.float32))
    if "rope_scaling" in config:
        out.add_tensor("rope_freqs.weight", rope_factors(config), raw_dtype=Q.F32)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
    return held


def make(out, scratch):
    """Writes all tiny models into `out`; returns, for each, the folder that mlx-lm loads."""
    out.mkdir(parents=True, exist_ok=True)
    folders = {}

    def save(name, config, change=lambda w: w, **options):
        config = {**BASE, **config}
        folders[name] = out / name
        save_folder(folders[name], config, change(make_weights(config, len(folders))), **options)

    def cast(dtype):
        return lambda weights: {k: w.astype(dtype) for k, w in weights.items()}

    untied = {"tie_word_embeddings": False}
    save("tiny-tied", {})
    save(
        "tiny-untied",
        {**untied, "head_dim": 32, "attention_bias": True, "mlp_bias": True},
        cast(mx.float16),
    )
    save("tiny-llama3", {"rope_theta": 500000.0, "rope_scaling": LLAMA3})
    save("tiny-sharded", {"rope_scaling": {"type": "linear", "factor": 2.0}}, shards=2)
    save("tiny-bf16", {"model_type": "mistral", "sliding_window": None}, cast(mx.bfloat16))
    weights, mode = quantized(make_weights(BASE, 100))
    save("tiny-quantized", {"quantization": mode, "quantization_config": mode}, lambda _: weights)

    def save_twin(name, config, types):
        config = {**BASE, **config}
        held = save_gguf(
            out / f"{name}.gguf", config, make_weights(config, 200 + len(folders)), types
        )
        folders[name] = Path(scratch) / name
        save_folder(folders[name], config, held)

    save_twin(
        "tiny-gguf", {}, {"self_attn.o": Q.F16, "self_attn": Q.Q4_0, "mlp": Q.Q8_0, "embed": Q.Q8_0}
    )
    llama3 = {**untied, "rope_theta": 500000.0, "rope_scaling": LLAMA3}
    save_twin("tiny-gguf-llama3", llama3, {"mlp": Q.Q4_1, "lm_head": Q.Q8_0, "": Q.F16})
    # After the others, whose seeds count the models before them.
    save("tiny-window", {"model_type": "mistral", "sliding_window": 24})
    mixed = ["sliding_attention", "full_attention"]
    save("tiny-mixed-window", {"sliding_window": 24, "layer_types": mixed})
    return folders
