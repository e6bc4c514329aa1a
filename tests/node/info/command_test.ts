import { deepEqual, equal, match } from "node:assert/strict";
import {
  type CommandWords,
  followCommand,
  LINE_BYTES_MAX,
  OUTPUT_BYTES_MAX,
  runCommand,
} from "../../../node/info/command.ts";
import { eventually, isAlive } from "../../support/eventually.ts";

/** Longer than any test: whoever waits for it waits in vain. */
const LONG_MS = 600_000;
const sh = (script: string): CommandWords => ["sh", "-c", script];
const forever = () => ({ timeoutMs: LONG_MS, signal: new AbortController().signal });

Deno.test("a command says what it has to say, in words of no country", async () => {
  deepEqual(await runCommand(sh("printf 'ä%s\\n' $LC_ALL"), forever()), { ok: true, text: "äC\n" });
});

Deno.test("a command that fails says nothing, and one that is not there is missing", async () => {
  const failed = await runCommand(sh("echo some; exit 3"), forever());
  deepEqual(failed, { ok: false, isMissing: false, reason: "it ended with 3" });
  const missing = await runCommand(["exo-no-such-program"], forever());
  equal(!missing.ok && missing.isMissing, true);
});

Deno.test("a command that takes too long is ended", async () => {
  const late = await runCommand(sh("exec sleep 600"), { ...forever(), timeoutMs: 1 });
  deepEqual(late, { ok: false, isMissing: false, reason: "it took longer than 1 ms" });
});

Deno.test("what a command has started, and holds its pipe, is not waited for", async () => {
  const stop = new AbortController();
  let pid = 0;
  await followCommand(sh("sleep 600 & echo $!; exec sleep 600"), {
    silenceMs: LONG_MS,
    signal: stop.signal,
    onLine: (line) => {
      pid = Number(line);
      stop.abort();
    },
  });
  equal(await isAlive(pid), true);
  Deno.kill(pid, "SIGKILL");
});

Deno.test("a command that says too much is ended", async () => {
  const much = await runCommand(["yes"], forever());
  deepEqual(much, {
    ok: false,
    isMissing: false,
    reason: `it said more than ${OUTPUT_BYTES_MAX} bytes`,
  });
});

Deno.test("no command is started for a node that stops", async () => {
  const stopped = await runCommand(sh("echo x"), {
    timeoutMs: LONG_MS,
    signal: AbortSignal.abort(),
  });
  deepEqual(stopped, { ok: false, isMissing: false, reason: "the node is stopping" });
});

Deno.test("lines are handed on as they come, whole, and the process ends with the node", async () => {
  const stop = new AbortController();
  const lines: string[] = [];
  const ended = await followCommand(
    sh("printf 'one\\ntw'; printf 'o\\n'; echo $$; exec sleep 600"),
    {
      silenceMs: LONG_MS,
      signal: stop.signal,
      onLine: (line) => {
        if (lines.push(line) === 3) stop.abort();
      },
    },
  );
  deepEqual(lines.slice(0, 2), ["one", "two"]);
  deepEqual(ended, { ok: false, isMissing: false, reason: "the node is stopping" });
  await eventually("the process is gone", async () => !await isAlive(Number(lines[2])));
});

Deno.test("a command that ends, is silent, or says a line without end is over", async () => {
  const follow = (script: string, silenceMs = LONG_MS) =>
    followCommand(sh(script), {
      silenceMs,
      signal: new AbortController().signal,
      onLine: () => {},
    });
  equal((await follow("echo x")).reason, "it ended");
  equal((await follow("echo x; exit 2")).reason, "it ended with 2");
  equal((await follow("exec sleep 600", 1)).reason, "it took longer than 1 ms");
  const endless = await follow("yes x | tr -d '\\n'");
  equal(endless.reason, `a line over ${LINE_BYTES_MAX} bytes`);
});

Deno.test("a listener that throws ends the command", async () => {
  const ended = await followCommand(["yes"], {
    silenceMs: LONG_MS,
    signal: new AbortController().signal,
    onLine: () => {
      throw new Error("no more of this");
    },
  });
  match(ended.reason, /no more of this/);
});
