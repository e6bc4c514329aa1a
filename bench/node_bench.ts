/**
 * What a node costs: start to ready, idle CPU and memory, load, first token and decode of a model.
 * `deno task bench [--rounds N] [--idle SECONDS] [--model FILE.gguf]`; prints one JSON object.
 */
import { parseArgs } from "node:util";
import { ApiClient } from "../api/client.ts";

const MAIN = new URL("../main.ts", import.meta.url).pathname;
const CLOCK_TICKS_PER_SECOND = 100;
const PAGE_BYTES = 4_096;
const MIB = 1_048_576;

/** A node that serves, and how long it took until `/readyz` said so. */
interface StartedNode {
  readonly child: Deno.ChildProcess;
  readonly url: string;
  readonly readyMs: number;
}

const median = (values: readonly number[]) =>
  [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? NaN;

function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return (listener.addr as Deno.NetAddr).port;
}

/** From the spawn of the process to the first 200 of `/readyz`, as a script would see it. */
async function startNode(dataDir: string): Promise<StartedNode> {
  const port = freePort();
  const url = `http://127.0.0.1:${port}`;
  const startedAt = performance.now();
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", MAIN, "serve", "-q", "--port", String(port), "--data-dir", dataDir],
    stdin: "null",
    stdout: "null",
    stderr: "inherit",
  }).spawn();
  while (true) {
    try {
      const { ok, body } = await fetch(`${url}/readyz`);
      await body?.cancel();
      if (ok) return { child, url, readyMs: performance.now() - startedAt };
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
  }
}

async function stop({ child }: StartedNode): Promise<void> {
  child.kill("SIGTERM");
  await child.status;
}

/** CPU seconds so far and resident bytes now, of one process. Source: proc(5). */
function usage(pid: number): { cpuSeconds: number; residentBytes: number } {
  const stat = Deno.readTextFileSync(`/proc/${pid}/stat`);
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ").map(Number);
  const ticks = (fields[11] ?? 0) + (fields[12] ?? 0);
  return {
    cpuSeconds: ticks / CLOCK_TICKS_PER_SECOND,
    residentBytes: (fields[21] ?? 0) * PAGE_BYTES,
  };
}

async function measureStart(dataDir: string, rounds: number) {
  const times: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const node = await startNode(dataDir);
    times.push(node.readyMs);
    await stop(node);
  }
  return { medianMs: Math.round(median(times)), allMs: times.map(Math.round) };
}

async function measureIdle(dataDir: string, seconds: number) {
  const node = await startNode(dataDir);
  await new Promise((resolve) => setTimeout(resolve, 2_000));
  const before = usage(node.child.pid);
  await new Promise((resolve) => setTimeout(resolve, seconds * 1_000));
  const after = usage(node.child.pid);
  await stop(node);
  return {
    cpuPercent: Number(((after.cpuSeconds - before.cpuSeconds) / seconds * 100).toFixed(2)),
    residentMiB: Math.round(after.residentBytes / MIB),
  };
}

async function measureModel(dataDir: string, path: string) {
  const node = await startNode(dataDir);
  const client = new ApiClient({ url: node.url, apiKey: undefined });
  const { id: model } = await client.addModel(path);
  const placedAt = performance.now();
  const { instanceId } = await client.placeInstance({ model });
  for await (const _ of client.awaitInstance({ instanceId }, { timeoutSeconds: 300 }));
  const readyMs = performance.now() - placedAt;
  const messages = [{ role: "user" as const, content: "What is the capital of France?" }];
  const askedAt = performance.now();
  let ttftMs = 0;
  let decode: number | undefined;
  for await (const event of client.chat({ model, messages, temperature: 0, maxTokens: 32 })) {
    if (event.type === "text") ttftMs ||= performance.now() - askedAt;
    if (event.type === "finish") decode = event.tokensPerSecond;
  }
  await stop(node);
  return {
    placeToReadyMs: Math.round(readyMs),
    ttftMs: Math.round(ttftMs),
    decodeTokensPerSecond: decode,
  };
}

const { values } = parseArgs({
  options: {
    rounds: { type: "string", default: "7" },
    idle: { type: "string", default: "20" },
    model: { type: "string" },
  },
});
const dataDir = await Deno.makeTempDir({ prefix: "exo-bench-" });
try {
  await stop(await startNode(dataDir)); // Setup and caches; not counted.
  const report = {
    machine: { cores: navigator.hardwareConcurrency, os: Deno.build.os, arch: Deno.build.arch },
    deno: Deno.version.deno,
    startToReady: await measureStart(dataDir, Number(values.rounds)),
    idle: await measureIdle(dataDir, Number(values.idle)),
    ...(values.model ? { model: await measureModel(dataDir, values.model) } : {}),
  };
  Deno.stdout.writeSync(new TextEncoder().encode(`${JSON.stringify(report, null, 2)}\n`));
} finally {
  await Deno.remove(dataDir, { recursive: true });
}
