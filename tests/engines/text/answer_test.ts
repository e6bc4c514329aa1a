import { deepEqual, equal } from "node:assert/strict";
import type { Chunk, FinishReason } from "../../../core/chunk.ts";
import { Answer, type AnswerLimits } from "../../../engines/text/answer.ts";

/** Tokens that are letters by their code, and 200 and 201: the two bytes of "é". */
const tokenizer = {
  trimsLeadingSpace: false,
  bytesOf: (id: number) => Uint8Array.of(id === 200 ? 0xc3 : id === 201 ? 0xa9 : id),
};

const EOS = 7;
const END = String.fromCharCode(EOS);

/** What a client is told of these letters, each as likely as its place says. */
function answer(text: string, limits: Partial<AnswerLimits> = {}, logprobs = false) {
  const made = new Answer(tokenizer, {
    ...{ maxTokens: 100, stop: [], eosIds: new Set([EOS]) },
    ...limits,
  });
  const chunks: Chunk[] = [];
  let reason: FinishReason | undefined;
  [...text].forEach((letter, i) => {
    if (reason !== undefined) return;
    const drawn = { id: letter.charCodeAt(0) };
    const likely = logprobs ? { logprob: -i - 1, top: [{ id: 120, logprob: -0.5 }] } : {};
    const said = made.take({ ...drawn, ...likely });
    chunks.push(...said.chunks);
    reason = said.finishReason;
  });
  return { chunks, reason, tokens: made.tokens };
}

const texts = (chunks: readonly Chunk[]) =>
  chunks.map((chunk) => chunk.type === "Token" ? chunk.text : chunk.type);

/** The ids whose log-probabilities each chunk tells. */
const likelies = (chunks: readonly Chunk[]) =>
  chunks.map((chunk) =>
    chunk.type === "Token"
      ? [chunk.text, (chunk.logprobs ?? []).map(({ logprob }) => -logprob).join(",")]
      : []
  );

Deno.test("Answer says each token, and ends at its limit, an end token or a stop string", () => {
  const plain = answer("abc", { maxTokens: 3 });
  deepEqual([texts(plain.chunks), plain.reason, plain.tokens], [["a", "b", "c"], "length", 3]);
  const ended = answer(`ab${END}c`);
  deepEqual([texts(ended.chunks), ended.reason, ended.tokens], [["a", "b"], "stop", 3]);
  const stopped = answer("abcdef", { stop: ["cd"] });
  deepEqual([texts(stopped.chunks), stopped.reason, stopped.tokens], [["a", "b"], "stop", 4]);
});

Deno.test("Answer lets go in the end of what only looked like a stop string", () => {
  const { chunks, reason } = answer("abc", { stop: ["cd"], maxTokens: 3 });
  equal(texts(chunks).join(""), "abc");
  equal(reason, "length");
});

Deno.test("Answer tells the log-probabilities of each token with its text", () => {
  const { chunks } = answer("ab", { maxTokens: 2 }, true);
  deepEqual(likelies(chunks), [["a", "1"], ["b", "2"]]);
  const [first] = chunks;
  deepEqual(first?.type === "Token" && first.logprobs, [{
    tokenId: 97,
    bytes: [97],
    logprob: -1,
    top: [{ tokenId: 120, bytes: [120], logprob: -0.5 }],
  }]);
});

Deno.test("Answer tells those of a character's bytes once it is whole", () => {
  const { chunks } = answer(`a${String.fromCharCode(200, 201)}b`, { maxTokens: 4 }, true);
  deepEqual(likelies(chunks), [["a", "1"], ["é", "2,3"], ["b", "4"]]);
});

Deno.test("Answer tells those of held text when it is let through, and never those that were cut", () => {
  const held = answer("acxb", { stop: ["cd"], maxTokens: 4 }, true);
  deepEqual(likelies(held.chunks), [["a", "1"], ["cx", "2,3"], ["b", "4"]]);
  const cut = answer("acd", { stop: ["cd"] }, true);
  deepEqual(likelies(cut.chunks), [["a", "1"]]);
  // The end token has no text, and is not told.
  deepEqual(likelies(answer(`a${END}`, {}, true).chunks), [["a", "1"]]);
});

Deno.test("Answer tells those of a character that was never completed, with its replacement", () => {
  const { chunks } = answer(`a${String.fromCharCode(200)}`, { maxTokens: 2 }, true);
  deepEqual(likelies(chunks), [["a", "1"], ["\ufffd", "2"]]);
});
