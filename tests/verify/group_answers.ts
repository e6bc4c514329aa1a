/** What clients of a struck group are owed. */
import assert from "node:assert/strict";
import type { Answer } from "../support/cluster_client.ts";

/**
 * Each is the whole answer, or an error that the server said, and what came before it was right.
 * @param expected what a client gets when all is well.
 * @throws what a client got instead.
 */
export function requireAnswered(answers: readonly Answer[], expected: Answer): void {
  for (const { text, end, isWhole, errorCode } of answers) {
    if (isWhole) {
      assert.deepEqual({ text, end }, { text: expected.text, end: expected.end });
      continue;
    }
    // A client that lost its connection, or whose stream was cut, says this code by itself.
    const isSaid = errorCode !== undefined && errorCode !== "node_unreachable";
    assert.ok(isSaid, `an answer ended without a word of the server's: ${end}`);
    assert.ok(expected.text.startsWith(text), `"${text}" came before ${end}, not as all is well`);
  }
}
