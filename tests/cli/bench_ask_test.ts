import { deepEqual, equal, rejects } from "node:assert/strict";
import type { ChatEvent, ChatInput } from "../../api/client_chat.ts";
import { benchAsk } from "../../cli/bench_ask.ts";
import { AppError, type ErrorCode } from "../../core/errors.ts";

const QUESTION = { prompt: "hi", maxTokens: 3 };
const TEXT: ChatEvent = { type: "text", text: "x" };

/** An endpoint that answers each question as `answer` says, and what it was asked. */
function endpoint(answer: (input: ChatInput) => Iterable<ChatEvent>, isExo = false) {
  const sent: (boolean | undefined)[] = [];
  const caches = new Set<boolean | undefined>();
  let told = 0;
  const client = {
    async *chat(input: ChatInput) {
      sent.push(input.ignoreEos);
      caches.add(input.usePrefixCache);
      await Promise.resolve();
      yield* answer(input);
    },
  };
  const onRefused = () => void told++;
  const ask = benchAsk(client, {
    model: "m",
    timeoutMs: 1_000,
    isExo,
    usePrefixCache: false,
    onRefused,
  });
  return { ask: () => Array.fromAsync(ask(QUESTION)), sent, caches, told: () => told };
}

function refusal(code: ErrorCode, param?: string): AppError {
  return new AppError(code, "Refused", { param });
}

Deno.test("An endpoint that takes ignore_eos is always sent it", async () => {
  const { ask, sent, told } = endpoint(() => [TEXT]);
  for (let i = 0; i < 3; i++) deepEqual(await ask(), [TEXT]);
  deepEqual([sent, told()], [[true, true, true], 0]);
});

Deno.test("One that refuses it is asked without, now and from then on, and told of once", async () => {
  for (const code of ["invalid_request", "internal", "node_unreachable"] as const) {
    const { ask, sent, told } = endpoint((input) => {
      if (input.ignoreEos) throw refusal(code);
      return [TEXT];
    });
    for (let i = 0; i < 2; i++) deepEqual(await ask(), [TEXT]);
    deepEqual([sent, told()], [[true, undefined, undefined], 1], code);
  }
});

Deno.test("A question that fails either way decides nothing", async () => {
  let isDown = true;
  const { ask, sent, told } = endpoint(() => {
    if (isDown) throw refusal("invalid_request");
    return [TEXT];
  });
  await rejects(ask(), { code: "invalid_request" });
  isDown = false;
  await ask();
  deepEqual([sent, told()], [[true, undefined, true], 0]);
});

Deno.test("After an answer with it, errors are about something else", async () => {
  let count = 0;
  const { ask, sent } = endpoint(() => {
    if (count++ > 0) throw refusal("internal");
    return [TEXT];
  });
  await ask();
  await rejects(ask(), { code: "internal" });
  deepEqual(sent, [true, true]);
});

Deno.test("An answer that breaks off is not asked for again", async () => {
  const { ask, sent } = endpoint(function* () {
    yield TEXT;
    throw refusal("internal");
  });
  await rejects(ask(), { code: "internal" });
  equal(sent.length, 1);
});

Deno.test("An exo is asked again only when it names the field", async () => {
  const busy = endpoint(() => {
    throw refusal("invalid_request", "messages");
  }, true);
  await rejects(busy.ask(), { code: "invalid_request" });
  deepEqual(busy.sent, [true]);
  const older = endpoint((input) => {
    if (input.ignoreEos) throw refusal("invalid_request", "ignore_eos");
    return [TEXT];
  }, true);
  await older.ask();
  deepEqual([older.sent, older.told()], [[true, undefined], 1]);
});

Deno.test("Who interrupts or runs out of time is not asked again", async () => {
  for (const code of ["cancelled", "timed_out", "queue_full"] as const) {
    const { ask, sent } = endpoint(() => {
      throw refusal(code);
    });
    await rejects(ask(), { code });
    deepEqual(sent, [true]);
  }
});

Deno.test("An exo is told to leave its cache alone; others are not asked what they do not know", async () => {
  for (const [isExo, cache] of [[true, false], [false, undefined]] as const) {
    const { ask, caches } = endpoint(() => [TEXT], isExo);
    await ask();
    deepEqual([...caches], [cache]);
  }
});
