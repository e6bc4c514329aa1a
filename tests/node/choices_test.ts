import { deepEqual, equal, rejects } from "node:assert/strict";
import { generateChoices } from "../../api/choices.ts";
import type { Chunk } from "../../core/chunk.ts";
import { AppError } from "../../core/errors.ts";
import type { ModelId } from "../../core/ids.ts";
import type { FakeScript } from "../../engines/fake.ts";
import type { Node } from "../../node/node.ts";
import { TempDir } from "../support/temp_dir.ts";
import {
  addTinyModel,
  commandId,
  createInstance,
  startTestNode,
  until,
} from "../support/test_node.ts";

/** Runs `body` on a node that serves a fake model. */
async function withNode(
  script: Partial<FakeScript>,
  body: (node: Node, modelId: ModelId) => Promise<void>,
): Promise<void> {
  await using dir = await TempDir.make();
  const node = await startTestNode(`${dir.path}/data`, script);
  try {
    const { modelId } = await addTinyModel(node, `${dir.path}/tiny`);
    await createInstance(node, modelId);
    await body(node, modelId);
  } finally {
    await node.stop();
  }
}

/** Asks for `count` answers to `content`. */
function ask(node: Node, modelId: ModelId, { count, content, signal }: {
  count: number;
  content: string;
  signal: AbortSignal;
}) {
  const payload = {
    messages: [{ role: "user" as const, content }],
    sampling: {},
    stop: [],
    seed: "1",
    topLogprobs: 1,
  };
  return generateChoices(node, { modelId, payload, count, signal });
}

const noTasks = (node: Node) =>
  until(node, "all tasks are forgotten", ({ tasks }) => tasks.size === 0);

const never = new AbortController().signal;

Deno.test("A runner's answers to one prompt come side by side, with their log-probabilities", async () => {
  await withNode({}, async (node, modelId) => {
    const { chunks } = await ask(node, modelId, { count: 3, content: "a b c", signal: never });
    const texts = ["", "", ""];
    const ends: string[] = [];
    for await (const { index, chunk } of chunks) {
      if (chunk.type === "Token") {
        texts[index] += chunk.text;
        equal(chunk.logprobs?.length, 1);
      }
      if (chunk.type === "Finish") ends.push(chunk.finishReason);
    }
    deepEqual([texts, ends], [["a b c", "a b c", "a b c"], ["stop", "stop", "stop"]]);
    await noTasks(node);
  });
});

Deno.test("An engine that has no room for all answers is asked for none of them", async () => {
  await withNode({ queueMax: 2, stepMs: 2, endless: true }, async (node, modelId) => {
    const asked = ask(node, modelId, { count: 4, content: "a", signal: never });
    await rejects(asked, { code: "queue_full" });
    await noTasks(node);
  });
});

Deno.test("A client that is gone, or leaves the loop, frees the engine of all answers", async () => {
  await withNode({ queueMax: 3, stepMs: 2, endless: true }, async (node, modelId) => {
    const client = new AbortController();
    const request = { count: 3, content: "a", signal: client.signal };
    const gone = await ask(node, modelId, request);
    client.abort();
    await noTasks(node);
    const left: Chunk["type"][] = [];
    for await (const { chunk } of gone.chunks) left.push(chunk.type);
    equal(left.includes("Finish"), false);
    for await (const _ of (await again(node, modelId)).chunks) break;
    await noTasks(node);
  });
});

/** As soon as the engine has dropped what was before. */
async function again(node: Node, modelId: ModelId) {
  for (;;) {
    try {
      return await ask(node, modelId, { count: 3, content: "a", signal: never });
    } catch (error) {
      if (!(error instanceof AppError) || error.code !== "queue_full") throw error;
    }
  }
}

Deno.test("A runner that dies ends all answers with its error", async () => {
  // It dies once both are accepted: one that is not would be asked for again.
  await withNode({ exitIn: "decode", gatherRequests: 2 }, async (node, modelId) => {
    const { chunks } = await ask(node, modelId, { count: 2, content: "a b c d", signal: never });
    const errors: string[] = [];
    for await (const { chunk } of chunks) {
      if (chunk.type !== "Error") continue;
      errors.push(chunk.error.code);
      // An answer that has not begun would be given to the next runner, and wait there for another.
      const [instanceId] = node.state().instances.keys();
      const removal = { type: "DeleteInstance" as const, commandId: commandId(node) };
      if (instanceId) await node.submit({ ...removal, instanceId });
    }
    deepEqual(errors, ["runner_failed", "runner_failed"]);
    await noTasks(node);
  });
});
