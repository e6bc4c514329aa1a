"""Records token ids (Rust tokenizers, sentencepiece) and rendered chat templates (transformers)."""

import io
import json
from pathlib import Path

import mlx.core as mx
import numpy as np
import sentencepiece
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)
from transformers import PreTrainedTokenizerFast

import tiny_models
from convert_gguf import gguf_tokenizer
from odd_strings import PIECES, STRINGS

SEED = 20_260_102


def samples():
    rng = np.random.default_rng(SEED)
    mixed = ["".join(rng.choice(PIECES, rng.integers(2, 14))) for _ in range(70)]
    return list(dict.fromkeys([*STRINGS, *mixed]))


GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# Each as llama.cpp's llama-vocab.cpp splits under that name of `tokenizer.ggml.pre`.
SPLITS = {
    "gpt-2": [GPT2],
    "llama-bpe": [LLAMA3],
    "qwen2": [LLAMA3.replace("{1,3}", "")],
    "default": [r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"],
}


def byte_level(pre):
    """A small byte-level BPE tokenizer that splits like `pre`, as (tokenizer, GGUF metadata)."""
    tok = Tokenizer(models.BPE(ignore_merges=pre == "llama-bpe"))
    if pre == "qwen2":
        tok.normalizer = normalizers.NFC()
    splits = [pre_tokenizers.Split(Regex(r), "isolated") for r in SPLITS[pre]]
    tok.pre_tokenizer = pre_tokenizers.Sequence(
        [*splits, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tok.decoder = decoders.ByteLevel()
    special = [AddedToken(t, special=True, normalized=False) for t in tiny_models.SPECIAL]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    corpus = [
        tiny_models.CORPUS,
        "123 456 789 1000 2024",
        "it's don't we've",
        "!!! ... ??? -----",
        "\n\n   \n  x = y;\n",
    ]
    tok.train_from_iterator(
        corpus * 3,
        trainers.BpeTrainer(
            vocab_size=420, special_tokens=special, initial_alphabet=alphabet, show_progress=False
        ),
    )
    bpe = json.loads(tok.to_str())["model"]
    tokens = sorted(bpe["vocab"], key=bpe["vocab"].get)
    return tok, {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3 if t in tiny_models.SPECIAL else 1 for t in tokens],
        "tokenizer.ggml.merges": [" ".join(m) for m in bpe["merges"]],
        "tokenizer.ggml.eos_token_id": 2,
    }


def sentence_piece(space_prefix):
    """A small SentencePiece BPE model with byte fallback, as (processor, GGUF metadata)."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(tiny_models.CORPUS.split(". ") * 4),
        model_writer=model,
        model_type="bpe",
        vocab_size=420,
        byte_fallback=True,
        character_coverage=1.0,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        add_dummy_prefix=space_prefix,
        split_digits=True,
        minloglevel=2,
        allow_whitespace_only_pieces=True,
    )
    sp = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    n = range(sp.vocab_size())
    types = [
        2 if sp.is_unknown(i) else 3 if sp.is_control(i) else 6 if sp.is_byte(i) else 1 for i in n
    ]
    return sp, {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": [sp.id_to_piece(i) for i in n],
        "tokenizer.ggml.scores": [sp.get_score(i) for i in n],
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.add_space_prefix": space_prefix,
        "tokenizer.ggml.bos_token_id": sp.bos_id(),
        "tokenizer.ggml.eos_token_id": sp.eos_id(),
    }


LLAMA_TEMPLATE = """{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\nToday Date: " + date_string + "\\n\\n" + system_message }}<|eot_id|>
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""
MISTRAL_TEMPLATE = """{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}\
{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}\
{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}\
{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token }}\
{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}"""
QWEN_TEMPLATE = """{%- if messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {%- set content = message.content %}
        {%- if '</think>' in content %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.last_query_index %}
            {{- '<|im_start|>' + message.role + '\\n<think>\\n\\n</think>\\n\\n' + content.lstrip('\\n') }}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\\n' + content }}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}
"""
USER = {"role": "user", "content": "What is 2 + 2?"}
CONVERSATIONS = [
    [USER],
    [{"role": "system", "content": "Be brief."}, USER],
    [
        USER,
        {"role": "assistant", "content": "<think>easy</think>\n\n4"},
        {"role": "user", "content": " And 3 + 3? \n"},
    ],
    [
        {"role": "system", "content": "  Spaces  "},
        {"role": "user", "content": "Ünï 🙂 {{ not a template }} <|im_end|>"},
    ],
]


def render(template, messages):
    tok = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.BPE()),
        chat_template=template,
        bos_token="<s>",
        eos_token="</s>",
    )
    try:
        text = tok.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, date_string="02 Jan 2026"
        )
        return {"rendered": text}
    except Exception as error:
        return {"error": str(error)}


def record(gguf, out, origin):
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)

    def dump(name, value):
        (out / name).write_text(json.dumps({"origin": origin, **value}, indent=1) + "\n")

    texts = samples()
    _, meta = mx.load(str(gguf), return_metadata=True)
    smollm = gguf_tokenizer(meta)
    ids = [smollm.encode(t, add_special_tokens=False).ids for t in texts]
    dump("tokens_smollm.json", {"samples": [[t, i] for t, i in zip(texts, ids)]})
    for pre in SPLITS:
        tok, meta = byte_level(pre)
        ids = [tok.encode(t, add_special_tokens=False).ids for t in texts]
        dump(
            f"tokens_{pre}.json",
            {"metadata": meta, "samples": [[t, i] for t, i in zip(texts, ids)]},
        )
    for prefix in (True, False):
        sp, meta = sentence_piece(prefix)
        plain = [t for t in texts if "\x00" not in t and "<" not in t]
        name = "tokens_llama.json" if prefix else "tokens_llama_no_prefix.json"
        dump(name, {"metadata": meta, "samples": [[t, sp.encode(t)] for t in plain]})
    templates = {
        "smollm2": meta_template(gguf),
        "llama": LLAMA_TEMPLATE,
        "mistral": MISTRAL_TEMPLATE,
        "qwen": QWEN_TEMPLATE,
    }
    dump(
        "chat_templates.json",
        {
            "templates": templates,
            "cases": [
                {"template": name, "messages": messages, **render(template, messages)}
                for name, template in templates.items()
                for messages in CONVERSATIONS
            ],
        },
    )


def meta_template(gguf):
    return mx.load(str(gguf), return_metadata=True)[1]["tokenizer.chat_template"]
