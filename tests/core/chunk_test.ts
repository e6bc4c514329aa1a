import assert from "node:assert/strict";
import { Chunk, isTerminal } from "../../core/chunk.ts";

const USAGE = { promptTokens: 1, completionTokens: 1, cachedTokens: 0 };
const STATS = { promptTokensPerSecond: 1, generationTokensPerSecond: 0, peakMemoryBytes: 0 };

Deno.test("nothing follows Finish and Error; everything else goes on", () => {
  const finish: Chunk = { type: "Finish", finishReason: "stop", usage: USAGE, stats: STATS };
  assert.equal(isTerminal(finish), true);
  assert.equal(isTerminal({ type: "Error", error: { code: "internal", message: "" } }), true);
  assert.equal(isTerminal({ type: "Accepted", promptTokens: 1 }), false);
  assert.equal(isTerminal({ type: "PrefillProgress", processedTokens: 1, totalTokens: 2 }), false);
  assert.equal(isTerminal({ type: "Token", text: "", tokenId: 0 }), false);
});

Deno.test("a chunk of an unknown type or with a field missing is refused", () => {
  assert.throws(() => Chunk.parse({ type: "Image" }));
  assert.throws(() => Chunk.parse({ type: "Finish", finishReason: "bored", usage: USAGE }));
  assert.throws(() => Chunk.parse({ type: "Token", text: "a" }));
});
