import { deepEqual, equal, match, ok } from "node:assert/strict";
import { PassThrough } from "node:stream";
import { LineEditor } from "../../cli/keyboard.ts";
import { ioOf } from "./fake_io.ts";

const CTRL_C = "\x03";
const CTRL_D = "\x04";
const UP = "\x1b[A";
const LEFT = "\x1b[D";

/** An editor whose keys are pressed by the test. */
function editor(signal?: AbortSignal) {
  const input = new PassThrough();
  const { io, stderr } = ioOf(signal ? { signal } : {});
  const keyboard = new LineEditor(io, input);
  return { keyboard, press: (keys: string) => input.write(keys), shown: stderr };
}

/** Lets the editor read the keys that were pressed. */
const read = () => new Promise((resolve) => setImmediate(resolve));

Deno.test("LineEditor edits a line and brings back earlier ones", async () => {
  const { keyboard, press, shown } = editor();
  using _ = keyboard;
  const first = keyboard.ask("> ");
  press(`wrld${LEFT}${LEFT}${LEFT}o\r`);
  deepEqual(await first, { type: "line", text: "world" });
  match(shown(), /> /);
  const second = keyboard.ask("> ");
  press(`${UP}\r`);
  deepEqual(await second, await first);
});

Deno.test("LineEditor keeps what is typed during an answer for the next prompts", async () => {
  const { keyboard, press, shown } = editor();
  using _ = keyboard;
  const first = keyboard.ask("> ");
  press("one\rtwo\rthr");
  deepEqual(await first, { type: "line", text: "one" });
  await read();
  ok(!shown().includes("two"), "keys pressed during an answer stay out of its text");
  deepEqual(await keyboard.ask("> "), { type: "line", text: "two" });
  const third = keyboard.ask("> ");
  press("ee\r");
  deepEqual(await third, { type: "line", text: "three" });
});

Deno.test("Ctrl-C gives a line up, then interrupts; during an answer it stops that", async () => {
  const { keyboard, press } = editor();
  using _ = keyboard;
  const kept = keyboard.ask("> ");
  press(`half${CTRL_C}whole\r`);
  deepEqual(await kept, { type: "line", text: "whole" });
  let stops = 0;
  {
    using _busy = keyboard.onInterrupt(() => stops++);
    press(CTRL_C);
    await read();
  }
  press(CTRL_C);
  await read();
  equal(stops, 1);
  const empty = keyboard.ask("> ");
  press(CTRL_C);
  deepEqual(await empty, { type: "interrupt" });
});

Deno.test("Ctrl-D, and the end of the command, end a prompt and each later one", async () => {
  const stop = new AbortController();
  for (const isKey of [true, false]) {
    const { keyboard, press } = editor(stop.signal);
    using _ = keyboard;
    const asked = keyboard.ask("> ");
    if (isKey) press(CTRL_D);
    else stop.abort();
    deepEqual(await asked, { type: "end" });
    deepEqual(await keyboard.ask("> "), { type: "end" });
  }
});
