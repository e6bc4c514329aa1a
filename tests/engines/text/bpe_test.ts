import { deepEqual, equal } from "node:assert/strict";
import { BPE } from "@huggingface/tokenizers";
import fc from "fast-check";
import { GgufStrings } from "../../../core/gguf_strings.ts";
import { mergeTokens, TableBpe } from "../../../engines/text/bpe.ts";

const token = fc.string({ unit: fc.constantFrom("a", "b", "ß", "😀"), minLength: 1, maxLength: 3 });
const merges = fc.array(fc.tuple(token, token), { maxLength: 30 });
const word = fc.string({ unit: fc.constantFrom("a", "b", "ß", "😀"), maxLength: 40 });

Deno.test("TableBpe merges as the library does with the same tables", () => {
  fc.assert(
    fc.property(merges, fc.array(word), fc.boolean(), (pairs, words, ignoreMerges) => {
      const letters = ["a", "b", "ß", "😀"];
      const tokens = [...new Set([...letters, ...pairs.map(([left, right]) => left + right)])];
      const config = { type: "BPE" as const, ignore_merges: ignoreMerges };
      const theirs = new BPE({
        ...config,
        vocab: Object.fromEntries(tokens.map((text, id) => [text, id])),
        merges: pairs,
      });
      const ours = new TableBpe({ ...config, vocab: {}, merges: [] }, {
        tokens: GgufStrings.of(tokens),
        merges: GgufStrings.of(pairs.map((pair) => pair.join(" "))),
      });
      deepEqual(ours.encode(words), theirs.encode(words));
      for (const text of [...tokens, ...words]) {
        equal(ours.tokens_to_ids.get(text), theirs.tokens_to_ids.get(text));
      }
    }),
    { numRuns: 500 },
  );
});

Deno.test("mergeTokens() takes the least rank first, then the leftmost", () => {
  const ranks: Record<string, number> = { "a a": 1, "aa a": 2, "b c": 0, "a b": 1 };
  const merge = (text: string) => mergeTokens([...text], (l, r) => ranks[`${l} ${r}`]);
  deepEqual(merge("aaa"), ["aaa"]);
  deepEqual(merge("abc"), ["a", "bc"]);
  deepEqual(merge("aab"), ["aa", "b"]);
  deepEqual(merge(""), []);
});

Deno.test("mergeTokens() takes words that nothing splits", () => {
  const lengths = (l: string, r: string) => l.length === r.length ? l.length : undefined;
  deepEqual(mergeTokens([..."a".repeat(2 ** 16)], lengths), ["a".repeat(2 ** 16)]);
});
