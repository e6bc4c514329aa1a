import assert from "node:assert/strict";
import type { z } from "zod";
import { ApiClient } from "../../api/client.ts";
import type { FakeScript } from "../../engines/fake.ts";
import { eventually } from "../support/eventually.ts";
import { ServeProcess } from "../support/exo_process.ts";
import { Mark } from "../support/marked.ts";
import { TempDir } from "../support/temp_dir.ts";

const TINY = new URL("../golden/models/tiny-tied", import.meta.url).pathname;
const SMOLLM2 = Deno.env.get("EXO_TEST_SMOLLM2_GGUF") ?? "";

/** How soon after a signal nothing may be left (design, Stopping). */
const END_MS = 2_000;

const SIGNALS = ["SIGTERM", "SIGINT", "SIGHUP"] as const;

/** A node that is asked to end while it is in some state. */
interface Stage {
  readonly client: ApiClient;
  readonly serve: ServeProcess;
  readonly model: string;
  readonly instanceId: string;
}

/** How a fake engine behaves, or none for a real one, and how its node is brought to the state. */
interface Case {
  readonly script: z.input<typeof FakeScript> | undefined;
  reach(stage: Stage): Promise<void>;
}

/** States of a node with one instance. */
const STAGES: Readonly<Record<string, Case>> = {
  "that is idle": { script: {}, reach: ready },
  "that generates": {
    script: { endless: true, stepMs: 1 },
    async reach(stage) {
      await ready(stage);
      await firstText(stage);
    },
  },
  "whose runner hangs in native code": {
    script: { hangIn: "decode" },
    async reach(stage) {
      await ready(stage);
      await firstText(stage);
    },
  },
  "whose runner hangs while it loads": {
    script: { hangIn: "load" },
    reach: ({ client }) =>
      eventually("it loads", async () => {
        const [tagged = {}] = Object.values((await client.state()).runners);
        return "RunnerLoading" in tagged;
      }),
  },
  "whose runner prints garbage": {
    script: { garbageIn: "load" },
    reach: ({ client, instanceId }) =>
      eventually("it is tried again", async () => {
        const { lastError = "" } = (await client.state()).instanceRetries[instanceId] ?? {};
        return lastError.includes("its channel carried garbage");
      }),
  },
  "whose runner is stopped": {
    script: undefined,
    async reach(stage) {
      await ready(stage);
      for (const pid of await stage.serve.runnerPids()) Deno.kill(pid, "SIGSTOP");
    },
  },
};

async function ready({ client, instanceId }: Stage): Promise<void> {
  for await (const _ of client.awaitInstance({ instanceId }, { timeoutSeconds: 60 }));
}

/** Asks, and leaves the answer under way. */
async function firstText({ client, model }: Stage, content = "one two three"): Promise<void> {
  const events = client.chat({ model, messages: [{ role: "user", content }] });
  for (let next = await events.next(); !next.done; next = await events.next()) {
    if (next.value.type === "text") return;
  }
}

/** Starts a node with an instance of a model, under a mark that its processes inherit. */
async function start(dir: TempDir, path: string, script?: z.input<typeof FakeScript>) {
  const mark = new Mark();
  const file = `${dir.path}/script.json`;
  await Deno.writeTextFile(file, JSON.stringify(script ?? {}));
  const engine = script ? { EXO_ENGINE: "fake", EXO_ENGINE_SCRIPT: file } : {};
  const serve = await ServeProcess.start(`${dir.path}/data`, { ...engine, ...mark.env });
  const client = new ApiClient({ url: serve.url, apiKey: undefined });
  const { id: model } = await client.addModel(path);
  const { instanceId } = await client.placeInstance({ model });
  return { mark, serve, client, model, instanceId };
}

/** Sends the signal; asserts exit code 0 in time, no process left, and the port free. */
async function endsAt(signal: Deno.Signal, serve: ServeProcess, mark: Mark): Promise<void> {
  const pids = [serve.pid, ...await serve.runnerPids()].toSorted();
  assert.deepEqual((await mark.pids()).toSorted(), pids);
  const startedAt = performance.now();
  serve.kill(signal);
  assert.equal(await serve.ended(), 0);
  const tookMs = Math.round(performance.now() - startedAt);
  assert.deepEqual(await mark.pids(), []);
  assert.ok(tookMs < END_MS, `it took ${tookMs} ms`);
  const { hostname, port } = new URL(serve.url);
  Deno.listen({ hostname, port: Number(port) }).close();
}

for (const [name, { script, reach }] of Object.entries(STAGES)) {
  Deno.test(`SIGTERM, SIGINT and SIGHUP end a node ${name} within 2 s`, async (t) => {
    for (const signal of SIGNALS) {
      await t.step(signal, async () => {
        await using dir = await TempDir.make();
        const { mark, ...stage } = await start(dir, TINY, script);
        await using serve = stage.serve;
        await reach(stage);
        await endsAt(signal, serve, mark);
      });
    }
  });
}

Deno.test({
  name: "SmolLM2: SIGTERM, SIGINT and SIGHUP end a node that reads a long prompt within 2 s",
  ignore: SMOLLM2 === "",
  async fn(t) {
    for (const signal of SIGNALS) {
      await t.step(signal, async () => {
        await using dir = await TempDir.make();
        const { mark, ...stage } = await start(dir, SMOLLM2);
        await using serve = stage.serve;
        await ready(stage);
        const { client, model } = stage;
        const content = "The quick brown fox jumps over the lazy dog. ".repeat(700);
        const events = client.chat({ model, messages: [{ role: "user", content }] });
        // Some of the prompt is read, most is not: the runner is inside an evaluation.
        const first = await events.next();
        assert.ok(!first.done && first.value.type === "prefill");
        assert.ok(first.value.processedTokens < first.value.totalTokens / 2);
        await endsAt(signal, serve, mark);
        await assert.rejects(async () => {
          for await (const { type } of events) assert.notEqual(type, "finish");
        });
      });
    }
  },
});

Deno.test("whoever asks a node twice does not wait, and leaves no runner either", async () => {
  await using dir = await TempDir.make();
  const { mark, ...stage } = await start(dir, TINY, { hangIn: "decode" });
  await using serve = stage.serve;
  await ready(stage);
  await firstText(stage);
  serve.kill("SIGINT");
  await eventually("it is stopping", () => stage.client.nodeId().then(() => true, () => true));
  serve.kill("SIGINT");
  await serve.ended();
  await eventually("no runner is left", async () => (await mark.pids()).length === 0, END_MS);
});
