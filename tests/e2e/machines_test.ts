/** One model over three machines, as a person would run it: placed, created, asked. */
import assert from "node:assert/strict";
import { whyNoNetwork } from "../../bench/netns.ts";
import { ensureSetup } from "../../ffi/setup.ts";
import { startCluster } from "../support/cluster.ts";
import { type Answer, answerOf } from "../support/cluster_client.ts";
import { exo } from "../support/exo_process.ts";
import { randomLlama } from "../support/eight_heads_llama.ts";
import { TempDir } from "../support/temp_dir.ts";

/** How long nodes of one machine may take to meet while it is busy. */
const PATIENCE_MS = 60_000;
const READY_SECONDS = "120";
const MAX_TOKENS = 24;

const why = await whyNoNetwork();

Deno.test({
  name: "exo places a model on three machines, creates it there, and streams what one says" +
    (why === undefined ? "" : ` (${why})`),
  ignore: why !== undefined,
  async fn() {
    await ensureSetup();
    await using dir = await TempDir.make();
    const path = `${dir.path}/random`;
    await randomLlama(path);
    await using cluster = await startCluster({ nodes: 3, isolated: true, engine: "real" });
    await cluster.met(PATIENCE_MS);
    let model = "";
    for (const { client } of cluster.nodes) model = (await client.addModel(path)).id;
    const { url } = cluster.node(0).client;
    const run = (...args: readonly string[]) => succeeded(...args, "--json", "--url", url);
    const ask = () =>
      run("run", model, "Hello", "--temperature", "0", "--max-tokens", `${MAX_TOKENS}`);
    const question = { model, content: "Hello", maxTokens: MAX_TOKENS };
    const stream = () => answerOf(cluster.node(1).client, question, PATIENCE_MS);
    const create = ["instance", "create", model, "--wait", "--timeout", READY_SECONDS];

    const { instanceId: alone } = await run(...create);
    const { text: expected } = await ask();
    assert.ok(expected.length > 0);
    const streamedAlone = await stream();
    assert.ok(streamedAlone.isWhole && streamedAlone.pieces > 1, JSON.stringify(streamedAlone));
    await run("instance", "delete", alone);

    const { placements } = await run("place", model, "--min-nodes", "3");
    const [best] = placements;
    assert.equal(best.shards.length, 3, JSON.stringify(best));
    const { instanceId } = await run(...create, "--min-nodes", "3");
    const { text } = await ask();
    assert.equal(text, expected);
    const streamed = await stream();
    assert.deepEqual(told(streamed), told(streamedAlone), "piece for piece what one streams");
    const working = await Promise.all(
      cluster.nodes.map(async ({ process }) => (await process.runnerPids()).length),
    );
    assert.deepEqual(working, [1, 1, 1], "a runner on each machine");
    await run("instance", "delete", instanceId);
  },
});

/** What two streams of one answer have in common. */
const told = ({ text, pieces, end, isWhole }: Answer) => ({ text, pieces, end, isWhole });

/** What a command prints as JSON. @throws when it fails, with what it says. */
// deno-lint-ignore no-explicit-any -- Each command prints what its own schema says.
async function succeeded(...args: readonly string[]): Promise<any> {
  const { code, stdout, stderr } = await exo(...args);
  assert.equal(code, 0, `exo ${args.join(" ")}: ${stderr}`);
  return JSON.parse(stdout.trim().split("\n").at(-1) ?? "");
}
