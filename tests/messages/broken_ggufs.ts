import {
  GGUF,
  ggufBytes,
  type GgufEntry,
  type GgufParts,
  type GgufTensorParts,
  tinyGguf,
} from "../support/gguf.ts";

/** Numbers of tensor types in a file. Source: ggml.h. */
const TYPES = { "IQ4_XS": 23, "TQ1_0": 34, "MXFP4": 39, "an unknown type": 99 };

const base = tinyGguf();
const bytesOf = (changes: Partial<GgufParts>) => ggufBytes({ ...base, ...changes });

/** The tiny file with a metadata entry added, in place of one of the same key. */
function withEntry(...entry: GgufEntry): Uint8Array {
  const others = base.entries.filter(([key]) => key !== entry[0]);
  return bytesOf({ entries: [...others, entry] });
}

function without(key: string): Uint8Array {
  return bytesOf({ entries: base.entries.filter(([name]) => name !== key) });
}

/** The tiny file with its second tensor changed. */
function withTensor(changes: Partial<GgufTensorParts>): Uint8Array {
  return bytesOf({
    tensors: base.tensors.map((tensor, i) => i === 1 ? { ...tensor, ...changes } : tensor),
  });
}

const whole = ggufBytes(base);
const u64 = (value: bigint) => new Uint8Array(BigUint64Array.of(value).buffer);

/** An array of arrays of … of texts, deeper than is read. */
function nested(depth: number): Uint8Array {
  const level = [...new Uint8Array(Uint32Array.of(GGUF.array).buffer), ...u64(1n)];
  return Uint8Array.from(Array.from({ length: depth }, () => level).flat());
}

/** GGUF files with one thing wrong, by what it is. */
export const BROKEN_GGUFS: Readonly<Record<string, Uint8Array>> = {
  "a GGUF that is empty": new Uint8Array(),
  "a GGUF of three bytes": whole.subarray(0, 3),
  "a GGUF with another magic": bytesOf({ magic: "GGML" }),
  "a GGUF that is a web page": new TextEncoder().encode("<!DOCTYPE html><html></html>"),
  "a GGUF of version 1": bytesOf({ version: 1 }),
  "a GGUF of a big-endian machine": bytesOf({ version: 0x03000000 }),
  "a GGUF of too many tensors": bytesOf({ tensorCount: 2n ** 60n }),
  "a GGUF of more tensors than it has": bytesOf({ tensorCount: 3n }),
  "a GGUF of fewer tensors than it has": bytesOf({ tensorCount: 1n, dataBytes: 0 }),
  "a GGUF of no tensors": bytesOf({ tensors: [], dataBytes: 0 }),
  "a GGUF of too many metadata": bytesOf({ entryCount: 2n ** 60n }),
  "a GGUF of more metadata than it has": bytesOf({ entryCount: 500n }),
  "a GGUF with a text that is too long": withEntry("general.name", GGUF.string, u64(2n ** 40n)),
  "a GGUF with a value of an unknown type": withEntry("general.name", 77, 1),
  "a GGUF with a list that is too long": withEntry(
    "general.tags",
    GGUF.array,
    Uint8Array.from([...new Uint8Array(Uint32Array.of(GGUF.string).buffer), ...u64(2n ** 40n)]),
  ),
  "a GGUF with lists nested too deep": withEntry("general.tags", GGUF.array, nested(8)),
  "a GGUF with no alignment": withEntry("general.alignment", GGUF.u32, 0),
  "a GGUF with an odd alignment": withEntry("general.alignment", GGUF.u32, 33),
  "a GGUF with an alignment that is text": withEntry("general.alignment", GGUF.string, "32"),
  "a GGUF without an architecture": without("general.architecture"),
  "a GGUF of an unsupported architecture": withEntry("general.architecture", GGUF.string, "mamba"),
  "a GGUF without a count of layers": without("llama.block_count"),
  "a GGUF of no layers": withEntry("llama.block_count", GGUF.u32, 0),
  "a GGUF whose width is text": withEntry("llama.embedding_length", GGUF.string, "wide"),
  "a GGUF without a count of heads": without("llama.attention.head_count"),
  "a GGUF that is one of several parts": withEntry("split.count", GGUF.u32, 3),
  "a tensor of no dimensions": withTensor({ shape: [] }),
  "a tensor of too many dimensions": withTensor({ shape: [2, 2, 2, 2, 2, 2] }),
  "a tensor of a length that is too great": withTensor({ shape: [2n ** 50n, 8] }),
  "a tensor with nothing in it": withTensor({ shape: [0, 8] }),
  "a tensor beyond the end of the data": withTensor({ shape: [8, 80] }),
  "a tensor off its alignment": withTensor({ offset: 100 }),
  "a tensor in the place of another": withTensor({ offset: 32 }),
  "a tensor that begins nowhere": withTensor({ offset: 2n ** 60n }),
  "two tensors of one name": withTensor({ name: "blk.0.attn_q.weight" }),
  "a GGUF cut off in its header": whole.subarray(0, 100),
  "a GGUF cut off in its data": whole.subarray(0, whole.length - 100),
  ...Object.fromEntries(
    Object.entries(TYPES).map(([name, type]) => [`a tensor of ${name}`, withTensor({ type })]),
  ),
};
