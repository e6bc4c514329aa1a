"""Makes a folder that mlx-lm serves from a llama GGUF: convert_for_mlx_lm.py IN.gguf OUT_DIR

The same 4-bit weights, bit for bit. Weights and tokenizer are converted as the golden recorders of
the tests do it; a server also needs the chat template and the special tokens by their roles.
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "golden"))

from convert_gguf import convert  # noqa: E402

gguf, out = Path(sys.argv[1]), Path(sys.argv[2])
meta = convert(gguf, out)
tokens = meta["tokenizer.ggml.tokens"]


def token(role):
    index = meta.get(f"tokenizer.ggml.{role}_token_id")
    return None if index is None else tokens[index.item()]


config = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "bos_token": token("bos"),
    "eos_token": token("eos"),
    "clean_up_tokenization_spaces": False,
    "chat_template": meta["tokenizer.chat_template"],
}
(out / "tokenizer_config.json").write_text(json.dumps(config))
