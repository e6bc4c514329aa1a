/** What becomes of an answer whose attempt fails. */
import assert from "node:assert/strict";
import type { Chunk } from "../../core/chunk.ts";
import { CommandId } from "../../core/ids.ts";
import { type Attempt, follow } from "../../node/generation_attempt.ts";

function attempt(...chunks: Chunk[]): Attempt {
  return {
    commandId: CommandId.parse("c"),
    promptTokens: 9,
    chunks: (async function* () {
      await Promise.resolve();
      yield* chunks;
    })(),
    finish: () => Promise.resolve(),
  };
}

const token: Chunk = { type: "Token", text: "hi", tokenId: 1 };
const lost: Chunk = { type: "Error", error: { code: "group_broken", message: "rank 1 is gone" } };
const progress: Chunk = { type: "PrefillProgress", processedTokens: 4, totalTokens: 9 };

Deno.test("a rank that is lost while the prompt is read costs nothing where another instance is", async () => {
  const again = () => Promise.resolve(attempt(progress, token));
  const seen = await Array.fromAsync(follow(attempt(progress, lost), again));
  assert.deepEqual(seen, [progress, progress, token]);
});

Deno.test("once it has said a word, a failure is told", async () => {
  const again = () => assert.fail("nobody else is asked");
  const seen = await Array.fromAsync(follow(attempt(progress, token, lost), again));
  assert.deepEqual(seen, [progress, token, lost]);
});

Deno.test("where nobody else is, the first failure is told", async () => {
  const seen = await Array.fromAsync(
    follow(attempt(progress, lost), () => Promise.resolve(undefined)),
  );
  assert.deepEqual(seen, [progress, lost]);
});
