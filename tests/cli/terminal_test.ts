import { equal, match, ok } from "node:assert/strict";
import { PROMPT, Terminal } from "../support/terminal.ts";
import { FakeNode } from "./fake_io.ts";

const MAIN = new URL("../../main.ts", import.meta.url).pathname;

/** `exo` on a terminal. */
function exo(...args: readonly string[]): Terminal {
  return new Terminal([Deno.execPath(), "run", "-A", "--no-check", MAIN, ...args]);
}

Deno.test("On a terminal Ctrl-C stops the answer, then ends the chat with 130", async () => {
  await using node = await FakeNode.start();
  node.gateway.placeModel();
  const cancelled = node.gateway.hangAfter("Once upon");
  await using terminal = exo("run", "tiny", "--url", node.url);
  match(await terminal.until(PROMPT), /Chat with local\/tiny-0123abcd/);
  await terminal.press("tell me\r");
  await terminal.until("Once upon");
  await terminal.press("\x03");
  await cancelled;
  match(await terminal.until(PROMPT), /Stopped/);
  await terminal.press("again\r");
  match(await terminal.until(PROMPT), /Hello world/);
  equal(node.gateway.asked.length, 2);
  await terminal.press("\x03");
  ok(!(await terminal.until("error:")).includes("error:"));
  equal(await terminal.code(), 130);
});

Deno.test("On a terminal Ctrl-D ends the chat with 0", async () => {
  await using node = await FakeNode.start();
  node.gateway.placeModel();
  await using terminal = exo("run", "tiny", "--url", node.url);
  await terminal.until(PROMPT);
  await terminal.press("\x04");
  await terminal.until("\x00");
  equal(await terminal.code(), 0);
});
