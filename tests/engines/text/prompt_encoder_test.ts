import { deepEqual, equal, throws } from "node:assert/strict";
import {
  CHARS_PER_TOKEN_MAX,
  PromptEncoder,
  REMEMBERED_PROMPTS_MAX,
} from "../../../engines/text/prompt_encoder.ts";

/** A tokenizer of one token for each character, and what it was given to read. */
function counting() {
  const read: string[] = [];
  const encode = (text: string) => {
    read.push(text);
    return [...text].map((letter) => letter.codePointAt(0) ?? 0);
  };
  return { read, encode };
}

Deno.test("PromptEncoder reads a prompt once that is asked for several times", () => {
  const tokenizer = counting();
  const prompts = new PromptEncoder(tokenizer, 100);
  for (let i = 0; i < 16; i++) deepEqual(prompts.encode("ab"), [97, 98]);
  deepEqual(prompts.encode("b"), [98]);
  deepEqual(prompts.encode("ab"), [97, 98]);
  deepEqual(tokenizer.read, ["ab", "b"]);
});

Deno.test("PromptEncoder remembers the prompts that were asked for last", () => {
  const tokenizer = counting();
  const prompts = new PromptEncoder(tokenizer, 100);
  for (let i = 0; i < REMEMBERED_PROMPTS_MAX; i++) prompts.encode(`${i}`);
  prompts.encode("0");
  prompts.encode("one more");
  tokenizer.read.length = 0;
  for (const prompt of ["0", "2", "one more", "1"]) prompts.encode(prompt);
  deepEqual(tokenizer.read, ["1"], "the one for which there was no place");
});

Deno.test("PromptEncoder does not remember more characters than it may", () => {
  const tokenizer = counting();
  const prompts = new PromptEncoder(tokenizer, 2 ** 20);
  const [half, rest, whole] = ["a".repeat(2 ** 20), "b".repeat(2 ** 20), "c".repeat(2 ** 21 + 1)];
  for (const prompt of [half, rest, half, rest, "d", half, "d"]) prompts.encode(prompt);
  deepEqual(tokenizer.read, [half, rest, "d", half]);
  tokenizer.read.length = 0;
  for (const prompt of [whole, whole, "d"]) prompts.encode(prompt);
  deepEqual(tokenizer.read, [whole, whole, "d"], "too long to be remembered, and the others gone");
});

Deno.test("PromptEncoder refuses a prompt of too many characters without reading it", () => {
  const tokenizer = counting();
  const prompts = new PromptEncoder(tokenizer, 10);
  equal(prompts.encode("a".repeat(CHARS_PER_TOKEN_MAX * 10)).length, CHARS_PER_TOKEN_MAX * 10);
  tokenizer.read.length = 0;
  throws(() => prompts.encode("a".repeat(CHARS_PER_TOKEN_MAX * 10 + 1)), {
    code: "context_length_exceeded",
    message: "Cannot take the prompt: it has 161 characters, at most 160 possible " +
      "with a context of 10 tokens",
  });
  deepEqual(tokenizer.read, []);
});
