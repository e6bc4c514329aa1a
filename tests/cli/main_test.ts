import { deepEqual, equal, match } from "node:assert/strict";
import { type Asked, FINISH, token } from "../support/fake_gateway.ts";
import { FakeNode } from "./fake_io.ts";

const MAIN = new URL("../../main.ts", import.meta.url).pathname;

/** The command line as a process of its own. */
function exo(args: readonly string[], options: Deno.CommandOptions = {}): Deno.Command {
  return new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", MAIN, ...args],
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
    ...options,
  });
}

const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);

Deno.test("main.ts prints the version and passes the exit code on", async () => {
  const [version, wrong] = await Promise.all([
    exo(["--version"]).output(),
    exo(["statsu"]).output(),
  ]);
  deepEqual([version.code, text(version.stderr)], [0, ""]);
  match(text(version.stdout), /^exo \d/);
  equal(wrong.code, 2);
  match(text(wrong.stderr), /did you mean status\?/);
});

Deno.test("main.ts reads a prompt from a pipe and prints the answer", async () => {
  await using node = await FakeNode.start();
  node.gateway.placeModel();
  const child = exo(["run", "tiny", "Summarise", "--url", node.url], { stdin: "piped" }).spawn();
  const writer = child.stdin.getWriter();
  await writer.write(new TextEncoder().encode("some text\n"));
  await writer.close();
  const { code, stdout } = await child.output();
  deepEqual([code, text(stdout)], [0, "Hello world\n"]);
  equal(node.gateway.asked[0]?.payload.messages[0]?.content, "Summarise\n\nsome text");
});

Deno.test("Ctrl-C ends an answer with 130 and cancels its generation", async () => {
  await using node = await FakeNode.start();
  node.gateway.placeModel();
  const cancelled = Promise.withResolvers<void>();
  const child = exo(["run", "tiny", "hi", "--url", node.url]);
  node.gateway.answer = async function* ({ signal }: Asked) {
    signal.addEventListener("abort", () => cancelled.resolve());
    yield token("Hi");
    await cancelled.promise;
    yield FINISH;
  };
  await using process = child.spawn();
  const reader = process.stdout.getReader();
  equal(text((await reader.read()).value ?? new Uint8Array()), "Hi");
  process.kill("SIGINT");
  await cancelled.promise;
  equal((await process.status).code, 130);
  await reader.cancel();
  await process.stderr.cancel();
});
