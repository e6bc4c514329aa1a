import { deepEqual, equal } from "node:assert/strict";
import { BPE } from "@huggingface/tokenizers";
import fc from "fast-check";
import { GgufStrings } from "../../../core/gguf_strings.ts";
import { Merger, TableBpe, useMerger } from "../../../engines/text/bpe.ts";

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

Deno.test("Merger takes the least rank first, then the leftmost", () => {
  const ranks: Record<string, number> = { "a a": 1, "aa a": 2, "b c": 0, "a b": 1 };
  // The middle comes first, and only then what is left and right of it, the right one first.
  const around: Record<string, number> = { "x y": 0, "a xy": 1, "xy b": 1 };
  deepEqual(new Merger((l, r) => around[`${l} ${r}`]).merge([..."axyb"]), ["axy", "b"]);
  const merge = (text: string) => new Merger((l, r) => ranks[`${l} ${r}`]).merge([...text]);
  deepEqual(merge("aaa"), ["aaa"]);
  deepEqual(merge("abc"), ["a", "bc"]);
  deepEqual(merge("aab"), ["aa", "b"]);
  deepEqual(merge(""), []);
});

Deno.test("Merger takes words that nothing splits", () => {
  const lengths = (l: string, r: string) => l.length === r.length ? l.length : undefined;
  deepEqual(new Merger(lengths).merge([..."a".repeat(2 ** 16)]), ["a".repeat(2 ** 16)]);
});

Deno.test("useMerger() keeps the tokens of every BPE of the library", () => {
  const suffixes = fc.constantFrom(
    {},
    { end_of_word_suffix: "</w>" },
    { continuing_subword_suffix: "@@" },
    { byte_fallback: true, unk_token: "a" },
  );
  fc.assert(
    fc.property(merges, fc.array(word), suffixes, (pairs, words, fields) => {
      const tokens = [...new Set(["a", "b", "a</w>", ...pairs.map((pair) => pair.join(""))])];
      const config = {
        ...{ type: "BPE" as const, ignore_merges: false, merges: pairs, ...fields },
        vocab: Object.fromEntries(tokens.map((text, id) => [text, id])),
      };
      const [ours, theirs] = [new BPE(config), new BPE(config)];
      useMerger(ours);
      // Twice, since the second time the words are remembered.
      for (let i = 0; i < 2; i++) deepEqual(ours.encode(words), theirs.encode(words));
    }),
    { numRuns: 500 },
  );
});

Deno.test("Merger takes a word of a million letters, and begins anew after many pairs", () => {
  const joins = (l: string, r: string) =>
    l.length === r.length && l.length < 64 ? l.length : undefined;
  const merger = new Merger(joins);
  const million = merger.merge([..."a".repeat(2 ** 20)]);
  deepEqual([million.length, new Set(million).size], [2 ** 14, 1]);
  // More pairs than it remembers: letters that follow each other once.
  const letters = Array.from({ length: 2 ** 17 }, (_, n) => String.fromCodePoint(0x10000 + n));
  for (let i = 0; i < 2; i++) equal(merger.merge(letters).join(""), letters.join(""));
  deepEqual(merger.merge([..."aaab"]), ["aaab"]);
});

/** What a merger does, in the plainest way. */
function mergePlainly(
  letters: readonly string[],
  rankOf: (left: string, right: string) => number | undefined,
): string[] {
  const tokens = [...letters];
  while (true) {
    const ranks = tokens.slice(1).map((right, at) => rankOf(tokens[at] ?? "", right) ?? Infinity);
    const least = Math.min(...ranks);
    if (least === Infinity) return tokens;
    const at = ranks.indexOf(least);
    tokens.splice(at, 2, `${tokens[at]}${tokens[at + 1]}`);
  }
}

Deno.test("Merger goes by rank and then by place, in whatever order they are found", () => {
  // Few ranks for many pairs, in no order: merges bring up lesser ranks, and places on the left.
  const ranks = fc.dictionary(
    fc.tuple(token, token).map((pair) => pair.join(" ")),
    fc.nat({ max: 5 }),
    { minKeys: 5, maxKeys: 60 },
  );
  fc.assert(
    fc.property(ranks, fc.array(word, { minLength: 1 }), (ranks, words) => {
      const rankOf = (left: string, right: string) => ranks[`${left} ${right}`];
      const merger = new Merger(rankOf);
      for (const one of words) deepEqual(merger.merge([...one]), mergePlainly([...one], rankOf));
    }),
    { numRuns: 500 },
  );
});
