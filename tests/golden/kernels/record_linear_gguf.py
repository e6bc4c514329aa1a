"""Records what GGUF's quantised blocks stand for: linear_gguf.bin, read by linear_gguf_test.cpp.

    python -m venv V && V/bin/pip install gguf==0.19.0 && V/bin/python record_linear_gguf.py

A case: int32 type (order of GgmlType), rows, inputs, bytes of a row; the blocks; the values by gguf-py,
f32 [rows, inputs]. Blocks are random, but that their f16 factors are sane numbers.
"""

import struct
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType as Q
from gguf.constants import GGML_QUANT_SIZES
from gguf.quants import dequantize

# Where a block keeps its f16 factors.
FACTORS = {
    Q.Q4_0: [0], Q.Q4_1: [0, 2], Q.Q5_0: [0], Q.Q5_1: [0, 2], Q.Q8_0: [0],
    Q.Q2_K: [80, 82], Q.Q3_K: [108], Q.Q4_K: [0, 2], Q.Q5_K: [0, 2], Q.Q6_K: [208],
}
ROWS = 3


def case(index, kind, rng):
    values, size = GGML_QUANT_SIZES[kind]
    inputs = max(64, values)
    blocks = rng.integers(0, 256, (ROWS * inputs // values, size), dtype=np.uint8)
    for at in FACTORS[kind]:
        factors = rng.normal(size=len(blocks)).astype(np.float16)
        blocks[:, at : at + 2] = factors.view(np.uint8).reshape(-1, 2)
    full = dequantize(blocks.reshape(ROWS, -1), kind).astype(np.float32).reshape(ROWS, inputs)
    head = struct.pack("<4i", index, ROWS, inputs, inputs // values * size)
    return head + blocks.tobytes() + full.tobytes()


rng = np.random.default_rng(20_261_121)
path = Path(__file__).with_name("linear_gguf.bin")
path.write_bytes(b"".join(case(i, kind, rng) for i, kind in enumerate(FACTORS)))
print(path.stat().st_size, "bytes")
