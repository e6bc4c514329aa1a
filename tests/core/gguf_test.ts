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

const PATH = fileURLToPath(new URL("../golden/models/tiny-gguf.gguf", import.meta.url));
const BYTES = Deno.readFileSync(PATH);
const FILE = "tiny.gguf";

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

Deno.test("parseGgufHeader() refuses other files and versions", () => {
  const zip = new TextEncoder().encode("PK\x03\x04 is no model at all");
  throws(() => parseGgufHeader(zip, FILE, zip.length), { code: "corrupt_model" });
  const old = BYTES.slice(0, 64);
  new DataView(old.buffer).setUint32(4, 1, true);
  throws(() => parseGgufHeader(old, FILE, BYTES.length), { code: "unsupported_model" });
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
  refuses(withTensor(() => ({ bytes: 17.5 })), "corrupt_model", /has the shape/);
  refuses(withTensor(() => ({ bytes: 2 ** 70 })), "corrupt_model", /has the shape/);
  refuses(withTensor(() => ({ name: second.name })), "corrupt_model", /two tensors have the name/);
});

Deno.test("modelCardFromGguf() tells what placement needs", () => {
  const options = { modelId: ModelId.parse("local/tiny"), file: FILE, fileBytes: BYTES.length };
  const card = modelCardFromGguf(parse(BYTES), options);
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

Deno.test("modelCardFromGguf() names an unknown architecture and the known ones", () => {
  const header = parse(BYTES);
  const metadata = new Map(header.metadata).set("general.architecture", "mamba");
  const options = { modelId: ModelId.parse("local/tiny"), file: FILE, fileBytes: BYTES.length };
  throws(
    () => modelCardFromGguf({ ...header, metadata }, options),
    (error) => {
      ok(error instanceof AppError);
      equal(error.code, "unsupported_model");
      match(error.message, /"mamba".*llama/);
      return true;
    },
  );
});
