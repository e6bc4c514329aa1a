"""Records what each GGML type that we load stands for: random blocks, and gguf-py's values."""

import json

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Q
from gguf.constants import GGML_QUANT_SIZES
from gguf.quants import dequantize

SEED = 20_260_103
VALUES = 256
# Where a block keeps its f16 scales, so that random bytes there make sane numbers.
SCALES = {Q.Q4_0: [0], Q.Q4_1: [0, 2], Q.Q8_0: [0], Q.Q2_K: [80, 82], Q.Q6_K: [208]}


def random_blocks(kind, rng):
    if kind == Q.F32:
        return rng.normal(size=(1, VALUES)).astype(np.float32)
    if kind == Q.F16:
        return rng.normal(size=(1, VALUES)).astype(np.float16)
    if kind == Q.BF16:
        high = rng.normal(size=(1, VALUES)).astype(np.float32).view(np.uint32) >> 16
        return high.astype(np.uint16).view(np.uint8)
    values, size = GGML_QUANT_SIZES[kind]
    blocks = rng.integers(0, 256, (VALUES // values, size), dtype=np.uint8)
    for at in SCALES[kind]:
        scale = rng.normal(0, 0.1, VALUES // values).astype(np.float16)
        blocks[:, at : at + 2] = scale.view(np.uint8).reshape(-1, 2)
    return blocks.reshape(1, -1)


def record(out, origin):
    rng = np.random.default_rng(SEED)
    file = gguf.GGUFWriter(str(out / "models" / "ggml-types.gguf"), "llama")
    values = {}
    for kind in (Q.F32, Q.F16, Q.BF16, *SCALES):
        blocks = random_blocks(kind, rng)
        file.add_tensor(f"{kind.name}.weight", blocks, raw_dtype=kind)
        row = dequantize(blocks, kind).reshape(-1)
        values[kind.name] = [float(f"{v:.7g}") for v in row]
    file.write_header_to_file()
    file.write_kv_data_to_file()
    file.write_tensors_to_file()
    file.close()
    text = json.dumps({"origin": origin, "values": values})
    (out / "parity" / "ggml-types.json").write_text(text + "\n")
