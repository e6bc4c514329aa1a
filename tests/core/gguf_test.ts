import { gguf } from "@huggingface/gguf";
import { deepEqual, equal, match, ok, throws } from "node:assert/strict";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { AppError } from "../../core/errors.ts";
import {
  checkGgufTensors,
  type GgufHeader,
  type GgufTensor,
  LOADABLE_GGML_TYPES,
  modelCardFromGguf,
  parseGgufHeader,
} from "../../core/gguf.ts";
import { GgufStrings } from "../../core/gguf_strings.ts";
import { ModelId } from "../../core/ids.ts";
import { GGUF, ggufBytes, type GgufTensorParts, tinyGguf } from "../support/gguf.ts";

const PATH = fileURLToPath(new URL("../golden/models/tiny-gguf.gguf", import.meta.url));
const BYTES = Deno.readFileSync(PATH);
const FILE = "tiny.gguf";

const OPTIONS = { modelId: ModelId.parse("local/tiny"), file: FILE, fileBytes: BYTES.length };

function parse(bytes: Uint8Array): GgufHeader {
  const header = parseGgufHeader(bytes, FILE, bytes.length);
  ok(header);
  return header;
}

/** The header of the tiny file with one tensor changed. */
function withTensor(change: (first: GgufTensor) => Partial<GgufTensor>): GgufHeader {
  const header = parse(BYTES);
  const [first, ...rest] = header.tensors;
  ok(first);
  return { ...header, tensors: [{ ...first, ...change(first) }, ...rest] };
}

function refuses(header: GgufHeader, code: string, message: RegExp, bytes = BYTES.length): void {
  throws(
    () => checkGgufTensors(header, FILE, bytes),
    (error) => error instanceof AppError && error.code === code && message.test(error.message),
  );
}

Deno.test("parseGgufHeader() reads what @huggingface/gguf reads", async () => {
  const header = parse(BYTES);
  const expected = await gguf(PATH, { allowLocalFile: true });
  equal(header.dataOffset, Number(expected.tensorDataOffset));
  deepEqual(
    header.tensors.map(({ name, shape, offset }) => ({ name, shape, offset })),
    expected.tensorInfos.map(({ name, shape, offset }) => ({
      name,
      shape: shape.map(Number),
      offset: Number(offset),
    })),
  );
  const { version: _version, tensor_count, kv_count, ...metadata } = expected.metadata;
  equal(header.tensors.length, Number(tensor_count));
  equal(header.metadata.size, Number(kv_count));
  const decoded = [...header.metadata].map(([key, value]) =>
    value instanceof GgufStrings ? [key, value.toArray()] : [key, value]
  );
  deepEqual(Object.fromEntries(decoded), metadata);
});

Deno.test("parseGgufHeader() asks for more at every prefix that ends inside the header", () => {
  const { dataOffset } = parse(BYTES);
  fc.assert(fc.property(fc.nat(dataOffset - 64), (length) => {
    equal(parseGgufHeader(BYTES.subarray(0, length), FILE, BYTES.length), undefined);
  }));
  ok(parseGgufHeader(BYTES.subarray(0, dataOffset), FILE, BYTES.length));
});

Deno.test("parseGgufHeader() names a file that ends inside its header", () => {
  const cut = BYTES.subarray(0, 1000);
  throws(() => parseGgufHeader(cut, FILE, cut.length), {
    code: "corrupt_model",
    message:
      'Cannot read "tiny.gguf": it ends after 1000 bytes, inside its header, all of it expected',
  });
});

Deno.test("parseGgufHeader() refuses other files, and tells a web page from another format", () => {
  const hintFor = (text: string, hint: RegExp) => {
    const bytes = new TextEncoder().encode(text);
    const message = new RegExp(`it begins with "${text.slice(0, 4)}", "GGUF" expected`);
    throws(() => parseGgufHeader(bytes, FILE, bytes.length), {
      code: "corrupt_model",
      message,
      hint,
    });
  };
  hintFor("PK35 is no model at all", /convert_hf_to_gguf/);
  hintFor("<!doctype html>", /^this is a page about the model/);
  throws(() => parseGgufHeader(new Uint8Array(0), FILE, 0), {
    message: 'Cannot read "tiny.gguf": found 0 bytes, a GGUF file expected',
  });
});

Deno.test("parseGgufHeader() refuses other versions, and files of the other byte order", () => {
  const refusal = (version: number) => {
    const bytes = ggufBytes({ ...tinyGguf(), version });
    return () => parseGgufHeader(bytes, FILE, bytes.length);
  };
  ok(refusal(2)());
  throws(refusal(1), { code: "unsupported_model", message: /of GGUF version 1, 2 or 3 needed/ });
  throws(refusal(3 * 2 ** 24), {
    code: "unsupported_model",
    message: /it is big-endian, little-endian needed/,
  });
});

Deno.test("parseGgufHeader() aligns the data as the file says, to a power of two", () => {
  const withAlignment = (type: number, value: unknown) => {
    const { entries, ...rest } = tinyGguf();
    return parse(
      ggufBytes({ ...rest, entries: [...entries, ["general.alignment", type, value]] }),
    );
  };
  equal(parse(ggufBytes(tinyGguf())).alignment, 32);
  const { alignment, dataOffset } = withAlignment(GGUF.u32, 256);
  deepEqual([alignment, dataOffset % 256], [256, 0]);
  throws(() => withAlignment(GGUF.u32, 48), {
    code: "corrupt_model",
    message: /general.alignment is 48, a power of two expected/,
  });
  throws(() => withAlignment(GGUF.u32, 0), { message: /general.alignment is 0,/ });
  throws(() => withAlignment(GGUF.string, "32"), { message: /general.alignment is "32",/ });
});

Deno.test("parseGgufHeader() refuses tensors without a name and with wrong dimensions", () => {
  const withFirst = (changes: Partial<GgufTensorParts>) => {
    const parts = tinyGguf();
    const tensors = parts.tensors.map((tensor, i) => i === 0 ? { ...tensor, ...changes } : tensor);
    return () => parse(ggufBytes({ ...parts, tensors }));
  };
  throws(withFirst({ name: "" }), { message: /tensor 1 of 2 has no name/ });
  throws(withFirst({ name: "a", shape: [] }), {
    message: /tensor "a" has 0 dimensions, 1 to 4 expected/,
  });
  throws(withFirst({ name: "a", shape: [1, 1, 1, 1, 1] }), { message: /"a" has 5 dimensions/ });
  const types = [1, 4, 99].map((type) => withFirst({ type })().tensors[0]);
  deepEqual(types.map((tensor) => [tensor?.type, tensor?.bytes]), [
    ["F16", 128],
    ["type 4", undefined],
    ["type 99", undefined],
  ]);
});

Deno.test("parseGgufHeader() never fails but by an AppError, whatever byte is wrong", () => {
  const { dataOffset } = parse(BYTES);
  fc.assert(
    fc.property(fc.nat(dataOffset - 1), fc.integer({ min: 1, max: 255 }), (at, change) => {
      const bytes = BYTES.slice();
      bytes[at] = (bytes[at] ?? 0) ^ change;
      try {
        const header = parseGgufHeader(bytes, FILE, bytes.length);
        if (header) checkGgufTensors(header, FILE, bytes.length);
      } catch (error) {
        ok(error instanceof AppError, String(error));
      }
    }),
    { numRuns: 300 },
  );
});

Deno.test("checkGgufTensors() passes a whole file and names the tensor of a cut one", () => {
  const header = parse(BYTES);
  checkGgufTensors(header, FILE, BYTES.length);
  const last = [...header.tensors].sort((a, b) => a.offset - b.offset).at(-1);
  ok(last?.bytes);
  const end = last.offset + last.bytes;
  const wanted = new RegExp(
    `${end - 1} bytes of data found, ${end} expected, where tensor "${last.name}"`,
  );
  refuses(header, "corrupt_model", wanted, header.dataOffset + end - 1);
});

Deno.test("checkGgufTensors() refuses types that MLX cannot read by their name", () => {
  for (const type of ["Q8_1", "MXFP4", "TQ1_0", "IQ4_XS", "type 99"]) {
    ok(!LOADABLE_GGML_TYPES.includes(type));
    refuses(
      withTensor(() => ({ type })),
      "unsupported_model",
      new RegExp(`of ${type.replace(/^(type )?/, "type ")},`),
    );
  }
});

Deno.test("checkGgufTensors() refuses a part of a split model", () => {
  const header = parse(BYTES);
  const split = { ...header, metadata: new Map(header.metadata).set("split.count", 3) };
  refuses(split, "unsupported_model", /one of 3 parts/);
});

Deno.test("checkGgufTensors() refuses tensors that overlap, are misplaced or misshapen", () => {
  const second = parse(BYTES).tensors[1];
  ok(second);
  refuses(
    withTensor(() => ({ offset: second.offset })),
    "corrupt_model",
    /\d+ expected, where ".*" ends/,
  );
  refuses(
    withTensor(({ offset }) => ({ offset: offset + 1 })),
    "corrupt_model",
    /a multiple of 32/,
  );
  for (const bytes of [17.5, 2 ** 70, 0]) {
    const values = bytes === 0 ? "F32" : "Q8_0";
    const needed = bytes === 0 ? "at least 1 value" : "blocks of 32 values";
    refuses(
      withTensor(() => ({ bytes, type: values })),
      "corrupt_model",
      new RegExp(`of type ${values} has the shape .*, ${needed} expected`),
    );
  }
  refuses(withTensor(() => ({ name: second.name })), "corrupt_model", /two tensors have the name/);
});

Deno.test("modelCardFromGguf() tells what placement needs", () => {
  const card = modelCardFromGguf(parse(BYTES), OPTIONS);
  equal(card.architecture, "llama");
  equal(card.nLayers, 2);
  equal(card.hiddenSize, 64);
  equal(card.numKeyValueHeads, 2);
  equal(card.contextLength, 2048);
  equal(card.quantization, "Q8_0");
  equal(card.license, "apache-2.0");
  equal(card.storageSize.inBytes, BYTES.length);
  equal(card.kvBytesPerToken, 2 * 2 * 2 * 16 * 4);
});

Deno.test("modelCardFromGguf() leaves open what the file does not tell", () => {
  const header = parse(ggufBytes(tinyGguf()));
  const metadata = new Map(header.metadata);
  metadata.delete("llama.context_length");
  const card = modelCardFromGguf({ ...header, metadata }, OPTIONS);
  equal(card.family, "llama");
  metadata.set("general.basename", "SmolLM2");
  equal(modelCardFromGguf({ ...header, metadata }, OPTIONS).family, "smollm2");
  equal(card.baseModel, "");
  equal(card.contextLength, 0);
  equal(card.license, undefined);
  equal(card.numKeyValueHeads, 2);
});

Deno.test("modelCardFromGguf() calls the quantisation by the type that most bytes of layers have", () => {
  const header = parse(BYTES);
  const quantization = (tensors: readonly GgufTensor[]) =>
    modelCardFromGguf({ ...header, tensors }, OPTIONS).quantization;
  const [first] = header.tensors;
  ok(first);
  const tensor = (name: string, type: string, bytes?: number) => ({ ...first, name, type, bytes });
  equal(quantization([tensor("blk.0.a", "Q4_0", 5), tensor("blk.0.b", "Q6_K", 9)]), "Q6_K");
  const two = [tensor("blk.0.a", "Q4_0", 5), tensor("blk.1.a", "Q4_0", 5)];
  equal(quantization([...two, tensor("blk.0.b", "Q6_K", 9)]), "Q4_0");
  equal(quantization([tensor("blk.0.a", "type 99"), tensor("blk.0.b", "Q6_K", 9)]), "Q6_K");
  equal(quantization([tensor("blk.0.a", "BF16", 5), tensor("output", "Q6_K", 9)]), "");
  equal(quantization([tensor("output", "Q6_K", 9)]), "");
});

Deno.test("modelCardFromGguf() refuses a file that holds metadata alone", () => {
  throws(() => modelCardFromGguf({ ...parse(BYTES), tensors: [] }, OPTIONS), {
    code: "corrupt_model",
    message: /it has 0 tensors/,
    hint: /^it may be a vocabulary alone/,
  });
});

Deno.test("modelCardFromGguf() names an unknown architecture and the known ones", () => {
  const header = parse(BYTES);
  const metadata = new Map(header.metadata).set("general.architecture", "mamba");
  throws(
    () => modelCardFromGguf({ ...header, metadata }, OPTIONS),
    (error) => {
      ok(error instanceof AppError);
      equal(error.code, "unsupported_model");
      match(error.message, /"mamba".*llama/);
      return true;
    },
  );
});
