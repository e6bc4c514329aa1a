import { deepEqual, equal, match, ok } from "node:assert/strict";
import { type Asked, token } from "../support/fake_gateway.ts";
import { FakeKeyboard, FakeNode } from "./fake_io.ts";

const CHAT = ["run", "tiny"];

/** The conversations that the node was sent, as `role: content` lines. */
function heard({ gateway }: FakeNode): string[][] {
  return gateway.asked.map(({ payload }) =>
    payload.messages.map(({ role, content }) => `${role}: ${content}`)
  );
}

Deno.test("chat sends each question with the conversation so far", async () => {
  await using node = await FakeNode.start();
  node.gateway.placeModel();
  const keyboard = new FakeKeyboard("one", "", "two");
  const { code, stdout, stderr } = await node.run([...CHAT, "--system", "brief"], { keyboard });
  deepEqual([code, stdout], [0, "Hello world\nHello world\n"]);
  match(stderr, /^Chat with local\/tiny-0123abcd; \/help shows what there is/);
  const first = ["system: brief", "user: one"];
  deepEqual(heard(node), [first, [...first, "assistant: Hello world", "user: two"]]);
  ok(keyboard.isClosed);
});

Deno.test("chat knows /clear, /help and /exit, and sends none of them", async () => {
  await using node = await FakeNode.start();
  node.gateway.placeModel();
  const typed = ["one", "/clear", "/help", "/nope", "/etc/hosts is what?", "/exit", "never"];
  const { code, stderr } = await node.run(CHAT, { keyboard: new FakeKeyboard(...typed) });
  equal(code, 0);
  deepEqual(heard(node), [["user: one"], ["user: /etc/hosts is what?"]]);
  match(stderr, /The conversation is forgotten\n\/clear {3}forget .*\n.*\n\/exit/);
  match(stderr, /No command \/nope; \/help shows/);
});

Deno.test("Ctrl-C at an empty prompt ends a chat with 130, Ctrl-D with 0", async () => {
  await using node = await FakeNode.start();
  node.gateway.placeModel();
  const keyboard = new FakeKeyboard({ type: "interrupt" }, "never");
  equal((await node.run(CHAT, { keyboard })).code, 130);
  equal((await node.run(CHAT, { keyboard: new FakeKeyboard({ type: "end" }) })).code, 0);
  deepEqual(heard(node), []);
});

Deno.test("Ctrl-C stops an answer, not its chat; what was said is remembered", async () => {
  await using node = await FakeNode.start();
  node.gateway.placeModel();
  const cancelled = node.gateway.hangAfter("Hel");
  const keyboard = new FakeKeyboard("one", "two");
  const onStdout = () => keyboard.pressCtrlC();
  const { code, stdout, stderr } = await node.run(CHAT, { keyboard, onStdout });
  await cancelled;
  // The second answer is stopped too, at its first piece; the chat ends by Ctrl-D.
  deepEqual([code, stdout.startsWith("Hel\n")], [0, true]);
  match(stderr, /\nStopped\n/);
  deepEqual(heard(node)[1], ["user: one", "assistant: Hel", "user: two"]);
});

Deno.test("A chat outlives an answer that fails, and forgets its question", async () => {
  await using node = await FakeNode.start();
  node.gateway.placeModel();
  const usual = node.gateway.answer;
  node.gateway.answer = () => {
    node.gateway.answer = usual;
    return [{ type: "Error", error: { code: "runner_failed", message: "Runner died" } }];
  };
  const { code, stdout, stderr } = await node.run(CHAT, {
    keyboard: new FakeKeyboard("one", "two"),
  });
  deepEqual([code, stdout], [0, "Hello world\n"]);
  match(stderr, /error: Runner died\n/);
  deepEqual(heard(node)[1], ["user: two"]);
});

Deno.test("An interrupt of the whole command ends a chat with 130 in mid-answer", async () => {
  await using node = await FakeNode.start();
  node.gateway.placeModel();
  const interrupt = new AbortController();
  node.gateway.answer = async function* ({ signal }: Asked) {
    const ended = Promise.withResolvers<void>();
    signal.addEventListener("abort", () => ended.resolve());
    yield token("Hi");
    await ended.promise;
  };
  const keyboard = new FakeKeyboard("one", "two");
  const { code } = await node.run(CHAT, {
    keyboard,
    signal: interrupt.signal,
    onStdout: () => interrupt.abort(),
  });
  equal(code, 130);
  equal(node.gateway.asked.length, 1);
  ok(keyboard.isClosed);
});
