/** How a slow client befalls a group: who it is, what it asks, and how it ends. */
import assert from "node:assert/strict";
import { answerOf } from "../support/cluster_client.ts";
import { eventually } from "../support/eventually.ts";
import { type GroupCell, isHeldStage } from "./group_faults.ts";
import type { Repair, Site } from "./group_strikes.ts";
import { type LongQuestion, SlowClient } from "./slow_client.ts";

/**
 * Answers of 7 MB and more, of which the system takes 4 MB at most from a server (its usual
 * net.ipv4.tcp_wmem), and 0.1 MB to a client that reads nothing. A fake engine says the words of its
 * question: a long one is 90 kB with its logprobs. A token of an engine that computes is 1.5 kB with
 * 20 others beside it, so that one is asked for several answers.
 */
const LONG: Readonly<Record<GroupCell["engine"], Omit<LongQuestion, "model">>> = {
  fake: { content: "x".repeat(8_000), tokens: 100, answers: 1 },
  real: { content: "go on and on", tokens: 600, answers: 8 },
};

/** How long another client may wait for an answer beside a slow one. */
const BESIDE_MS_MAX = 10_000;

/**
 * A client of the struck node reads nothing while the others are served, until the node can send it
 * no more. Then one of the node that has the first rank reads to the end; one of the last rank's
 * hangs up in the middle. Where no rank is ready, there is nothing to read slowly but a refusal:
 * the client reads that late.
 */
export async function readLate(site: Site): Promise<Repair> {
  const { struck, model, engine, rank, stage } = site;
  const client = await SlowClient.ask(struck, { model, ...LONG[engine] });
  if (isHeldStage(stage)) {
    // While the rank is still held: afterwards there would be an answer.
    await client.untilSpokenTo();
    return async () => {
      using _ = client;
      await client.readRefusal();
    };
  }
  return async () => {
    // Whoever has not read to the end hangs up by this.
    using _ = client;
    const held = await client.untilBlocked();
    await requireServed(site);
    await client.requireBlocked(held);
    const openTasks = async () => Object.keys((await struck.state()).tasks).length;
    const { answers } = LONG[engine];
    // The other answer's task goes a moment after its end.
    await eventually("the other task is gone", async () => await openTasks() <= answers);
    assert.equal(await openTasks(), answers, "the slow answers have not ended");
    if (rank === "last") return;
    const bytes = await client.readToEnd();
    const heldBytes = held.unsent + held.unread;
    assert.ok(bytes > heldBytes, `the node held some of ${bytes} bytes, the system ${heldBytes}`);
  };
}

/** Others are answered in full while the node can send nothing to the slow one. */
async function requireServed({ struck, model }: Site): Promise<void> {
  const question = { model, content: "and now for others", maxTokens: 4 };
  const { isWhole, end } = await answerOf(struck.client, question, BESIDE_MS_MAX);
  assert.ok(isWhole, `beside a slow client another one got ${end}`);
}
