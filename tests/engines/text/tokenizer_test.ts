import { deepEqual, equal, ok, throws } from "node:assert/strict";
import fc from "fast-check";
import { readTokenizer } from "../../../engines/mlx/folder_checkpoint.ts";
import { Detokenizer } from "../../../engines/text/detokenizer.ts";
import { TextTokenizer } from "../../../engines/text/tokenizer.ts";
import { ggufTokenizer, goldenJson, goldenPath, SMOLLM2, tokenizerOf } from "../golden.ts";

type Sample = [text: string, ids: number[]];

/** The text of all tokens. */
function decode(tokenizer: TextTokenizer, ids: readonly number[]): string {
  const detokenizer = new Detokenizer(tokenizer);
  return ids.map((id) => detokenizer.add(id)).join("") + detokenizer.finish();
}

for (const name of ["gpt-2", "llama-bpe", "qwen2", "default", "llama", "llama_no_prefix"]) {
  Deno.test(`TextTokenizer makes the reference's tokens of a "${name}" vocabulary`, () => {
    const { metadata, samples } = goldenJson(`text/tokens_${name}.json`);
    const tokenizer = tokenizerOf(metadata);
    for (const [text, ids] of samples as Sample[]) {
      deepEqual(tokenizer.encode(text), ids, JSON.stringify(text));
    }
  });

  Deno.test(`TextTokenizer gives back the text of its "${name}" tokens`, () => {
    const { metadata, samples } = goldenJson(`text/tokens_${name}.json`);
    const tokenizer = tokenizerOf(metadata);
    for (const [text] of samples as Sample[]) {
      // Qwen normalises, and SentencePiece has one letter for "▁" and the space.
      const normal = name === "qwen2"
        ? text.normalize("NFC")
        : name.startsWith("llama") && name !== "llama-bpe"
        ? text.replaceAll("▁", " ")
        : text;
      equal(decode(tokenizer, tokenizer.encode(text)), normal, JSON.stringify(text));
    }
  });
}

Deno.test({
  name: "TextTokenizer makes the Rust library's tokens of SmolLM2's vocabulary",
  ignore: SMOLLM2 === undefined, // Needs the GGUF: EXO_TEST_SMOLLM2_GGUF.
  fn() {
    const tokenizer = ggufTokenizer(SMOLLM2 ?? "");
    for (const [text, ids] of goldenJson("text/tokens_smollm.json").samples as Sample[]) {
      deepEqual(tokenizer.encode(text), ids, JSON.stringify(text));
      equal(decode(tokenizer, ids), text);
    }
  },
});

Deno.test("TextTokenizer of a folder and of a GGUF with the same vocabulary agree", () => {
  const folder = new TextTokenizer(readTokenizer(goldenPath("models/tiny-tied")));
  const file = ggufTokenizer(goldenPath("models/tiny-gguf.gguf"));
  equal(folder.chatTemplate, file.chatTemplate);
  deepEqual([folder.bosToken, folder.eosToken], [file.bosToken, file.eosToken]);
  fc.assert(fc.property(fc.string({ unit: "grapheme" }), (text) => {
    deepEqual(folder.encode(text), file.encode(text));
    equal(decode(folder, folder.encode(text)), text);
  }));
});

Deno.test("TextTokenizer knows its special tokens and nothing beyond its vocabulary", () => {
  const tokenizer = ggufTokenizer(goldenPath("models/tiny-gguf.gguf"));
  equal(tokenizer.idOf("<|im_end|>"), 2);
  deepEqual(tokenizer.encode("<|im_start|>a<|im_end|>").filter((id) => id < 3), [1, 2]);
  equal(tokenizer.bytesOf(100_000).length, 0);
  deepEqual(tokenizer.encode(""), []);
});

Deno.test("tokenizerFromGguf() refuses kinds that it cannot rebuild, by name", () => {
  const { metadata } = goldenJson("text/tokens_gpt-2.json");
  const of = (changes: Record<string, unknown>) => () => tokenizerOf({ ...metadata, ...changes });
  throws(of({ "tokenizer.ggml.model": "bert" }), {
    code: "unsupported_model",
    message: /"bert" found, one of gpt2, llama needed/,
  });
  throws(of({ "tokenizer.ggml.pre": "tekken" }), { message: /"tekken" found, one of gpt-2/ });
  throws(of({ "tokenizer.ggml.merges": undefined }), { code: "corrupt_model" });
});

Deno.test("TextTokenizer refuses a tokenizer whose tokens cannot be decoded one by one", () => {
  const source = readTokenizer(goldenPath("models/tiny-tied"));
  const tokenizer = { ...source.tokenizer, decoder: { type: "WordPiece", prefix: "##" } };
  throws(() => new TextTokenizer({ ...source, tokenizer }), {
    code: "unsupported_model",
    message: /"WordPiece" found/,
  });
  throws(() => new TextTokenizer({ ...source, tokenizer: {} }), { code: "unsupported_model" });
});

Deno.test("TextTokenizer takes special tokens and templates in each form of the config", () => {
  const source = readTokenizer(goldenPath("models/tiny-tied"));
  const config = {
    ...source.config,
    bos_token: { content: "<|im_start|>" },
    chat_template: [{ name: "tool_use", template: "x" }, { name: "default", template: "y" }],
  };
  const tokenizer = new TextTokenizer({ ...source, config });
  equal(tokenizer.bosToken, "<|im_start|>");
  equal(tokenizer.chatTemplate, "y");
  ok(new TextTokenizer({ ...source, config: {} }).chatTemplate === undefined);
});
