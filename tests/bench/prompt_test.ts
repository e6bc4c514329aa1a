import { deepEqual, equal, match, notEqual, ok, rejects } from "node:assert/strict";
import fc from "fast-check";
import { promptText, sizePrompt } from "../../bench/prompt.ts";

/** A tokenizer that needs `perWord` tokens for a word, after a template of `base`. */
function counter(base: number, perWord: (word: number) => number) {
  const asked: number[] = [];
  const count = (words: number) => {
    asked.push(words);
    let tokens = base;
    for (let word = 0; word < words; word++) tokens += perWord(word);
    return Promise.resolve(tokens);
  };
  return { asked, count };
}

Deno.test("promptText() has as many words as asked, and is always the same", () => {
  fc.assert(fc.property(fc.integer({ min: 1, max: 500 }), fc.nat(20_000), (words, serial) => {
    equal(promptText(words, serial).split(" ").length, words);
    equal(promptText(words, serial), promptText(words, serial));
  }));
});

Deno.test("Prompts of two serials differ within three words, and nowhere else", () => {
  const [one, two] = [promptText(40, 7), promptText(40, 8)];
  notEqual(one, two);
  match(one, /^H A A the time of /);
  equal(one.slice(6), two.slice(6));
  match(one, / Now write a very long story about this$/);
});

Deno.test("One token for each word takes two questions", async () => {
  const { asked, count } = counter(30, () => 1);
  deepEqual(await sizePrompt(512, count), { askedTokens: 512, words: 482, reachedTokens: 512 });
  deepEqual(asked, [1, 482]);
});

Deno.test("A size below the template's is the smallest that there is", async () => {
  const { count } = counter(30, () => 1);
  deepEqual(await sizePrompt(8, count), { askedTokens: 8, words: 1, reachedTokens: 31 });
});

Deno.test("A size that no number of words has is met as nearly as may be", async () => {
  const { count } = counter(30, () => 4);
  deepEqual(await sizePrompt(101, count), { askedTokens: 101, words: 18, reachedTokens: 102 });
  deepEqual(await sizePrompt(99, count), { askedTokens: 99, words: 17, reachedTokens: 98 });
});

Deno.test("Whatever words cost, the nearest size is found in few questions", async () => {
  const costs = fc.array(fc.integer({ min: 1, max: 5 }), { minLength: 1, maxLength: 20 });
  const target = fc.integer({ min: 1, max: 5_000 });
  await fc.assert(fc.asyncProperty(fc.nat(60), costs, target, async (base, costs, target) => {
    const { asked, count } = counter(base, (word) => costs[word % costs.length] ?? 1);
    const { words, reachedTokens } = await sizePrompt(target, count);
    equal(await count(words), reachedTokens);
    const miss = Math.abs(reachedTokens - target);
    for (const near of [words - 1, words + 1].filter((words) => words >= 1)) {
      ok(Math.abs(await count(near) - target) >= miss);
    }
    ok(asked.length <= 32, `${asked.length} questions`);
  }));
});

Deno.test("Counts that do not grow with the prompt are refused", async () => {
  await rejects(sizePrompt(99, () => Promise.resolve(5)), {
    code: "invalid_request",
    message: "Cannot make a prompt of 99 tokens: the endpoint counts 5 for 95 words, " +
      "more needed for more words",
  });
});
