import { deepEqual, equal, rejects } from "node:assert/strict";
import { type ChoiceChunk, generateChoices } from "../../api/choices.ts";
import type { Chunk } from "../../core/chunk.ts";
import { AppError } from "../../core/errors.ts";
import type { TextGenerationPayload } from "../../core/task.ts";
import { type Asked, FakeGateway, FINISH, TINY, token } from "../support/fake_gateway.ts";

const PAYLOAD: TextGenerationPayload = {
  messages: [{ role: "user", content: "hi" }],
  sampling: {},
  stop: [],
  seed: "18446744073709551614",
};

/** Asks a fake node for `count` answers, as the chat route does. */
function ask(gateway: FakeGateway, count: number, client = new AbortController()) {
  const { signal } = client;
  return generateChoices(gateway, { modelId: TINY, payload: PAYLOAD, count, signal });
}

const indexOf = ({ payload }: Asked) =>
  Number(BigInt.asUintN(64, BigInt(payload.seed) - BigInt(PAYLOAD.seed)));

/** Resolves when the generation of `asked` is cancelled. */
function cancelled({ signal }: Asked): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener("abort", () => resolve());
  });
}

/** An answer that ends only when it is cancelled. */
async function* endless(asked: Asked): AsyncGenerator<Chunk> {
  yield token("Hi");
  await cancelled(asked);
  yield { ...FINISH, finishReason: "cancelled" } as Chunk;
}

async function all(chunks: AsyncIterable<ChoiceChunk>): Promise<ChoiceChunk[]> {
  return await Array.fromAsync(chunks);
}

Deno.test("Each choice has the next seed, of 64 bits, and an id of its own", async () => {
  const gateway = new FakeGateway();
  const { commandIds, chunks } = await ask(gateway, 4);
  const seeds = gateway.asked.map(({ payload }) => payload.seed);
  deepEqual(seeds, ["18446744073709551614", "18446744073709551615", "0", "1"]);
  equal(new Set(commandIds).size, 4);
  const byIndex = Map.groupBy(await all(chunks), ({ index }) => index);
  deepEqual([...byIndex.keys()].sort(), [0, 1, 2, 3]);
  for (const own of byIndex.values()) {
    deepEqual(own.map(({ chunk }) => chunk), [token("Hello"), token(" world"), FINISH]);
  }
});

Deno.test("Chunks come in the order in which they are made; none waits for another's", async () => {
  const gateway = new FakeGateway();
  const gate = Promise.withResolvers<void>();
  gateway.answer = async function* (asked) {
    if (indexOf(asked) === 0) await gate.promise;
    yield token("Hello");
    yield FINISH;
  };
  const { chunks } = await ask(gateway, 2);
  const seen: unknown[] = [];
  for await (const { index, chunk } of chunks) {
    seen.push([index, chunk.type]);
    if (chunk.type === "Finish") gate.resolve();
  }
  deepEqual(seen, [[1, "Token"], [1, "Finish"], [0, "Token"], [0, "Finish"]]);
});

Deno.test("A fast choice does not crowd out the others", async () => {
  const gateway = new FakeGateway();
  gateway.answer = () => [...Array.from({ length: 50 }, () => token("x")), FINISH];
  const { chunks } = await ask(gateway, 3);
  const indices = (await all(chunks)).map(({ index }) => index);
  const sorted = indices.slice(0, 30).sort();
  deepEqual(sorted, [...Array(10).fill(0), ...Array(10).fill(1), ...Array(10).fill(2)]);
});

Deno.test("A refused choice refuses all, and cancels those that were accepted", async () => {
  const gateway = new FakeGateway();
  const accepted: Asked[] = [];
  gateway.accept = (asked) => {
    if (indexOf(asked) === 2) throw new AppError("queue_full", "Queue is full");
    accepted.push(asked);
  };
  await rejects(ask(gateway, 4), { code: "queue_full", message: "Queue is full" });
  equal(accepted.length, 3);
  await Promise.all(accepted.map(cancelled));
});

Deno.test("A refusal is told although others have not been accepted yet", async () => {
  const gateway = new FakeGateway();
  gateway.accept = async (asked) => {
    if (indexOf(asked) === 1) throw new AppError("queue_full", "Queue is full");
    await cancelled(asked);
    throw new AppError("cancelled", "The request was cancelled by its client");
  };
  await rejects(ask(gateway, 3), { code: "queue_full" });
});

Deno.test("A choice that fails is told, and whoever leaves then cancels the rest", async () => {
  const gateway = new FakeGateway();
  const error = { code: "runner_failed", message: "Runner died" } as const;
  gateway.answer = (asked) => indexOf(asked) === 1 ? [{ type: "Error", error }] : endless(asked);
  const { chunks } = await ask(gateway, 3);
  for await (const { index, chunk } of chunks) {
    if (chunk.type !== "Error") continue;
    equal(index, 1);
    break;
  }
  await Promise.all(gateway.asked.map(cancelled));
});

Deno.test("A client that is gone ends all choices", async () => {
  const gateway = new FakeGateway();
  gateway.answer = endless;
  const client = new AbortController();
  const { chunks } = await ask(gateway, 3, client);
  const ends: string[] = [];
  for await (const { chunk } of chunks) {
    if (gateway.asked.length === 3 && !client.signal.aborted) client.abort();
    if (chunk.type === "Finish") ends.push(chunk.finishReason);
  }
  deepEqual(ends, ["cancelled", "cancelled", "cancelled"]);
});

Deno.test("Choices that have all ended are not cancelled", async () => {
  const gateway = new FakeGateway();
  const { chunks } = await ask(gateway, 2);
  let ends = 0;
  for await (const { chunk } of chunks) {
    // As the encoders do: they leave at the last end.
    if (chunk.type === "Finish" && ++ends === 2) break;
  }
  deepEqual(gateway.asked.map(({ signal }) => signal.aborted), [false, false]);
});

Deno.test("Nobody who takes no chunks lets more than one of each choice be made", async () => {
  const gateway = new FakeGateway();
  let made = 0;
  gateway.answer = function* () {
    for (;;) {
      made++;
      yield token("x");
    }
  };
  const { chunks } = await ask(gateway, 3);
  let taken = 0;
  for await (const _ of chunks) {
    taken++;
    // Whatever could be made ahead is made by the time all that was asked for has settled.
    for (let turn = 0; turn < 100; turn++) await Promise.resolve();
    const ahead = made - taken;
    equal(ahead <= 3, true, `${ahead} chunks ahead`);
    if (taken === 50) break;
  }
});

Deno.test("A source that throws, against its word, ends its choice with an error", async () => {
  const gateway = new FakeGateway();
  gateway.answer = function* () {
    yield token("Hi");
    throw new Error("a defect");
  };
  const { chunks } = await ask(gateway, 1);
  deepEqual((await all(chunks)).map(({ chunk }) => chunk), [
    token("Hi"),
    { type: "Error", error: { code: "internal", message: "a defect" } },
  ]);
});
