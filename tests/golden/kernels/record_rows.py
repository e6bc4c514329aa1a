"""Records what MLX computes for the cases of ffi/kernels/tests/rows_golden_test.cpp into rows.bin.

Run: python record_rows.py   (needs mlx[cpu]==0.32.4, as ffi/wheels.ts has it)
Inputs are not recorded: both sides make them with the same generator (testing.h, Noise).
The file holds records of: u32 length of the name, name, u32 count, count f32 values.
"""

import math
import os
import struct

import mlx.core as mx
import numpy as np

MASK = (1 << 64) - 1


def noise(seed, *shape):
    """Same numbers as Noise(seed).uniform(), in order."""
    state = (seed * 2654435761 + 1) & 0xFFFFFFFF
    values = np.empty(int(np.prod(shape)), np.float32)
    for i in range(values.size):
        state = (state * 6364136223846793005 + 1442695040888963407) & MASK
        bits = state >> 32
        signed = bits - (1 << 32) if bits >= 1 << 31 else bits
        values[i] = np.float32(signed >> 8) * np.float32(2.0**-23)
    return mx.array(values.reshape(shape))


def rotary(dims, traditional, offset, freqs=None, head_dim=64):
    x = noise(4, 1, 2, 4, head_dim)  # [batch, heads, rows, head_dim]
    base = None if freqs is not None else 10000.0
    return mx.fast.rope(
        x, dims, traditional=traditional, base=base, scale=1.0, offset=offset, freqs=freqs
    )


def frequencies(pairs):
    """As mx.fast.rope makes them of its base; at position 8191 an ulp of them shows."""
    return mx.exp(mx.arange(0, -pairs, -1).astype(mx.float32) * (math.log(10000.0) / pairs))


def attention(window=0, sinks=None, context=300, rows=3):
    heads, kv_heads, dim = 6, 2, 32
    q = noise(5, 1, heads, rows, dim) * 3
    k = noise(6, 1, kv_heads, context, dim)
    v = noise(7, 1, kv_heads, context, dim)
    at = mx.arange(context - rows, context)[:, None]
    keys = mx.arange(context)[None, :]
    mask = keys <= at
    if window:
        mask = mask & (keys > at - window)
    return mx.fast.scaled_dot_product_attention(q, k, v, scale=dim**-0.5, mask=mask, sinks=sinks)


def cases():
    x, weight, bias = noise(1, 3, 100) * 4, noise(2, 100), noise(3, 100)
    yield "rms_norm", mx.fast.rms_norm(x, weight, 1e-5)
    yield "layer_norm", mx.fast.layer_norm(x, weight, bias, 1e-5)
    yield "softmax", mx.softmax(x, axis=-1)
    yield "logsumexp", mx.logsumexp(x, axis=-1)
    yield "silu", x * mx.sigmoid(x)
    yield "gelu", x * (1 + mx.erf(x / 2**0.5)) / 2
    yield "gelu_tanh", 0.5 * x * (1 + mx.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3)))
    yield "softcap", 3 * mx.tanh(x / 3)
    yield "frequencies_32", frequencies(32)
    yield "frequencies_12", frequencies(12)
    yield "rope", rotary(64, False, 0)
    yield "rope_far", rotary(64, False, 8188)
    yield "rope_partial", rotary(24, False, 500)
    yield "rope_traditional", rotary(64, True, 8188)
    yield "rope_freqs", rotary(64, False, 1000, freqs=mx.arange(1, 33).astype(mx.float32) * 1.5)
    yield "attention", attention()
    yield "attention_window", attention(window=100)
    yield "attention_sinks", attention(sinks=noise(8, 6) * 4)


mx.set_default_device(mx.cpu)
with open(os.path.join(os.path.dirname(__file__), "rows.bin"), "wb") as file:
    for name, result in cases():
        values = np.array(result).astype("<f4").ravel()
        file.write(struct.pack("<I", len(name)) + name.encode() + struct.pack("<I", values.size))
        file.write(values.tobytes())
