import assert from "node:assert/strict";
import { eventually } from "../support/eventually.ts";
import { ExampleWorld } from "../support/example_world.ts";
import { Mark } from "../support/marked.ts";
import { TempDir } from "../support/temp_dir.ts";

const SIGNALS = ["SIGTERM", "SIGINT", "SIGHUP"] as const;

/** How soon a command that is interrupted has ended, with all that it started. */
const END_MS = 2_000;

/** `docs/cli.md`: interrupted. */
const INTERRUPTED = 130;

/** Runs a line until it has said `isUp`, then sends the signal. */
async function interrupt(
  world: ExampleWorld,
  line: string,
  { signal, isUp }: { signal: Deno.Signal; isUp: RegExp },
): Promise<void> {
  const mark = new Mark();
  const child = world.command(line, mark.env).spawn();
  let sentAt: number | undefined;
  let said = "";
  const read = async (stream: ReadableStream<Uint8Array<ArrayBuffer>>) => {
    for await (const text of stream.pipeThrough(new TextDecoderStream())) {
      said += text;
      if (sentAt !== undefined || !isUp.test(said)) continue;
      sentAt = performance.now();
      child.kill(signal);
    }
  };
  await Promise.all([read(child.stdout), read(child.stderr)]);
  const { code } = await child.status;
  assert.ok(sentAt !== undefined, said);
  const tookMs = Math.round(performance.now() - sentAt);
  assert.equal(code, INTERRUPTED, said);
  assert.ok(tookMs < END_MS, `it took ${tookMs} ms`);
  assert.doesNotMatch(said, /error:/, "who interrupts needs no explanation");
  assert.deepEqual(await mark.pids(), [], "nothing is left");
}

/** Whether a node runs at the usual address, which a command would then ask. */
async function hasUsualNode(): Promise<boolean> {
  try {
    (await Deno.connect({ hostname: "127.0.0.1", port: 52_415 })).close();
    return true;
  } catch {
    return false;
  }
}

Deno.test("SIGTERM, SIGINT and SIGHUP end run and bench with 130 in mid-answer", async (t) => {
  await using dir = await TempDir.make();
  await using world = await ExampleWorld.make(dir, { endless: true, stepMs: 1 });
  await world.prepare({ isPlaced: true });
  const noTasks = async () => Object.keys((await world.client.state()).tasks).length === 0;
  for (const signal of SIGNALS) {
    await t.step(`run, ${signal}`, async () => {
      await interrupt(world, "exo run smollm2 hello", { signal, isUp: /hellohello/ });
      await eventually("the node has given up the answer", noTasks, END_MS);
    });
    await t.step(`bench, ${signal}`, async () => {
      const line = "exo bench smollm2 --pp 32 --tg 1000000";
      await interrupt(world, line, { signal, isUp: /Warming up/ });
      await eventually("the node has given up the answer", noTasks, END_MS);
    });
  }
});

Deno.test({
  name: "SIGTERM, SIGINT and SIGHUP end run with the node that it started for itself",
  ignore: await hasUsualNode(),
  async fn(t) {
    await using dir = await TempDir.make();
    await using world = await ExampleWorld.make(dir, { endless: true, stepMs: 1 });
    for (const signal of SIGNALS) {
      await t.step(signal, async () => {
        const line = "EXO_URL= exo run ./SmolLM2-135M-Instruct-Q4_1.gguf hello";
        await interrupt(world, line, { signal, isUp: /hellohello/ });
      });
    }
  },
});

Deno.test("SIGTERM, SIGINT and SIGHUP end commands that wait for a model that hangs", async (t) => {
  await using dir = await TempDir.make();
  await using world = await ExampleWorld.make(dir, { hangIn: "load" });
  for (const signal of SIGNALS) {
    for (const line of ["exo instance create smollm2 --wait", "exo run smollm2 hi", "exo demo"]) {
      await t.step(`${line}, ${signal}`, async () => {
        await world.prepare({ isPlaced: false });
        await interrupt(world, line, { signal, isUp: /Loading/ });
      });
    }
  }
});

Deno.test({
  name: "a node that was started with nohup outlives its terminal",
  ignore: Deno.build.os !== "linux",
  async fn() {
    await using dir = await TempDir.make();
    await using world = await ExampleWorld.make(dir);
    await using child = world.command("nohup exo serve --json -q").spawn();
    const lines = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
    const { url } = JSON.parse((await lines.read()).value ?? "");
    child.kill("SIGHUP");
    assert.equal((await (await fetch(`${url}/node_id`)).json()).length, 52);
    child.kill("SIGTERM");
    assert.equal((await child.status).code, 0);
    await lines.cancel();
    await child.stderr.cancel();
  },
});
