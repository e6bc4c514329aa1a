"""Records what MLX computes with quantised matrices: linear.bin, read by linear_golden_test.cpp.

    python -m venv V && V/bin/pip install "mlx[cpu]==0.32.4" && V/bin/python record_linear.py

A case: int32 bits, group, dtype (0 f32, 1 f16, 2 bf16), outputs, inputs, rows, then words, scales and
biases as MLX stores them, x [rows, inputs], dequantised w [outputs, inputs] and y [rows, outputs] as
f32. Scales are of the case's type; products are computed by MLX in f32 from the same values.
"""

import struct
from pathlib import Path

import mlx.core as mx

# Odd numbers of outputs; every kind of matrix that MLX quantises, and f16 and bf16 scales.
CASES = [(bits, 32, mx.float32, 5, 128, 1) for bits in (2, 3, 4, 5, 6, 8)]
CASES += [(bits, 64, mx.float16, 3, 192, 2) for bits in (2, 3, 4, 5, 6, 8)]
CASES += [(bits, 128, mx.bfloat16, 3, 256, 1) for bits in (2, 3, 4, 5, 6, 8)]
CASES += [(4, 32, mx.float16, 17, 96, 4), (8, 32, mx.bfloat16, 16, 64, 4)]
TYPES = {mx.float32: 0, mx.float16: 1, mx.bfloat16: 2}


def raw(array):
    if array.dtype in (mx.float16, mx.bfloat16):
        array = array.view(mx.uint16)
    return bytes(memoryview(array))


def case(bits, group, dtype, outputs, inputs, rows):
    weight = mx.random.normal((outputs, inputs)) * 0.05
    words, scales, biases = mx.quantize(weight, group_size=group, bits=bits)
    scales, biases = scales.astype(dtype), biases.astype(dtype)
    parts = words, scales.astype(mx.float32), biases.astype(mx.float32)
    x = mx.random.normal((rows, inputs))
    full = mx.dequantize(*parts, group_size=group, bits=bits)
    y = mx.quantized_matmul(x, *parts, group_size=group, bits=bits)
    head = struct.pack("<6i", bits, group, TYPES[dtype], outputs, inputs, rows)
    return head + b"".join(map(raw, (words, scales, biases, x, full, y)))


mx.random.seed(7)
mx.set_default_device(mx.cpu)
path = Path(__file__).with_name("linear.bin")
path.write_bytes(b"".join(case(*each) for each in CASES))
print(path.stat().st_size, "bytes")
