/**
 * Serves a fake node and prints its address. "fill" on stdin takes every descriptor that the
 * process may have, "free" gives them back; a line on stdout says that it is done, or why a
 * connection is not taken.
 */
import { createInterface } from "node:readline";
import { Readable } from "node:stream";
import { serveApi } from "../../api/server.ts";
import { FakeGateway } from "./fake_gateway.ts";

const say = (line: string) => Deno.stdout.writeSync(new TextEncoder().encode(`${line}\n`));
const files: Deno.FsFile[] = [];

function fill(): void {
  try {
    for (;;) files.push(Deno.openSync("/dev/null"));
  } catch {
    say("full");
  }
}

function free(): void {
  for (const file of files.splice(0)) file.close();
  say("free");
}

// Deno sets up signals at some time after the start, and panics if there is no descriptor for them.
Deno.addSignalListener("SIGUSR2", () => {});
const { url } = await serveApi(new FakeGateway(), {
  hostname: "127.0.0.1",
  port: 0,
  signal: new AbortController().signal,
  onCrowded: say,
});
say(url);
for await (const line of createInterface({ input: Readable.fromWeb(Deno.stdin.readable) })) {
  if (line === "fill") fill();
  else free();
}
