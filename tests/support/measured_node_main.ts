/**
 * A node with its API that tells what it holds: `measured_node_main.ts DATA_DIR`. Its first line is
 * where it serves; then it answers each line on stdin with one of `MeasuredNode`'s samples.
 */
import { createInterface } from "node:readline";
import { Readable } from "node:stream";
import { serveApi } from "../../api/server.ts";
import { Node } from "../../node/node.ts";
import { liveBytes } from "./live_bytes.ts";

const RUNNER = new URL("./measured_runner_main.ts", import.meta.url).pathname;
const say = (value: unknown) =>
  Deno.stdout.writeSync(new TextEncoder().encode(`${JSON.stringify(value)}\n`));

const [dataDir = ""] = Deno.args;
await Deno.mkdir(dataDir, { recursive: true });
const deviceFile = `${dataDir}/device.json`;
await Deno.writeTextFile(deviceFile, JSON.stringify({ backends: ["MlxCpu"] }));
const node = await Node.start({
  dataDir,
  version: "0.0.0-test",
  name: "measured",
  deviceFile,
  launch: {
    command: Deno.execPath(),
    args: ["run", "-A", "--no-check", RUNNER],
    env: Deno.env.toObject(),
  },
});
const closing = new AbortController();
const { url } = await serveApi(node, { hostname: "127.0.0.1", port: 0, signal: closing.signal });
say({ url });
for await (const _ of createInterface({ input: Readable.fromWeb(Deno.stdin.readable) })) {
  say({ liveBytes: await liveBytes(), residentBytes: Deno.memoryUsage().rss });
}
await node.stop();
closing.abort();
Deno.exit(0);
