import { deepEqual, equal, match, ok } from "node:assert/strict";
import { join } from "node:path";
import type { PreviewsJson } from "../../cli/place_view.ts";
import { GIB } from "../../core/units.ts";
import { A, nodeStarted } from "../support/fixtures.ts";
import { cardOf, NODE } from "../support/fake_gateway.ts";
import { TempDir } from "../support/temp_dir.ts";
import { commandOf, FakeNode, runIn, type World } from "./fake_io.ts";

const MODEL = "mlx-community/Llama-3.2-1B-Instruct-4bit";

/** Two nodes that reach each other. */
const TOPOLOGY = {
  nodes: [
    { id: "mini", friendlyName: "Mac Mini", memoryAvailableBytes: 8 * GIB },
    { id: "studio", friendlyName: "Mac Studio", memoryAvailableBytes: 64 * GIB },
  ],
  links: [
    { source: "mini", sink: "studio", address: "10.0.0.2", kind: "socket" },
    { source: "studio", sink: "mini", address: "10.0.0.1", kind: "socket" },
  ],
};

/** A folder with a topology, and no node anywhere. */
async function paper(topology: unknown = TOPOLOGY) {
  const dir = await TempDir.make();
  const text = typeof topology === "string" ? topology : JSON.stringify(topology);
  await Deno.writeTextFile(join(dir.path, "topology.json"), text);
  const world: World = { cwd: dir.path, env: { EXO_URL: "http://127.0.0.1:1" } };
  const run = (...flags: string[]) =>
    runIn(world, ["place", MODEL, "--topology", "topology.json", ...flags]);
  return {
    run,
    async json(...flags: string[]): Promise<PreviewsJson> {
      const { stdout } = await run(...flags, "--json");
      return (await commandOf(["place"])).json.parse(JSON.parse(stdout)) as PreviewsJson;
    },
    [Symbol.asyncDispose]: () => dir[Symbol.asyncDispose](),
  };
}

Deno.test("place --topology shows placements on paper, the best first, and asks no node", async () => {
  await using cluster = await paper();
  const { placements, rejected } = await cluster.json();
  const [best] = placements;
  deepEqual([best?.sharding, best?.instanceMeta, best?.nodeIds.length], ["Pipeline", "MlxRing", 1]);
  deepEqual(best?.shards, [
    { nodeId: best?.nodeIds[0], startLayer: 0, endLayer: 16, deviceRank: 0 },
  ]);
  ok(placements.some(({ nodeIds }) => nodeIds.length === 2));
  ok(rejected.every(({ reason }) => reason !== ""));
  const { code, stdout } = await cluster.run();
  equal(code, 0);
  match(
    stdout,
    /^ +SHARDING +TRANSPORT +NODES, LAYERS AND MEMORY +CONTEXT\n1 +Pipeline +MlxRing +Mac/,
  );
  match(stdout, /\nSHARDING +TRANSPORT +NOT ON +REASON\n/);
});

Deno.test("place --topology keeps to its flags, nodes by name", async () => {
  await using cluster = await paper();
  const layers = ["--layers", "mini=4,Mac Studio=12"];
  const { placements } = await cluster.json(...layers, "--context", "1000");
  const [only] = placements;
  equal(placements.length, 1);
  const counts = Object.fromEntries(
    (only?.shards ?? []).map(({ nodeId, startLayer, endLayer }) => [nodeId, endLayer - startLayer]),
  );
  deepEqual([counts, only?.contextTokens], [{ mini: 4, studio: 12 }, 1_000]);
  const pinned = await cluster.json("--node", "mac s", "--exact", "--sharding", "pipeline");
  deepEqual(pinned.placements.map(({ nodeIds }) => nodeIds), [["studio"]]);
  const others = await cluster.json("--exclude", "studio", "--min-nodes", "1");
  deepEqual(others.placements.map(({ nodeIds }) => nodeIds), [["mini"]]);
});

Deno.test("place --topology exits with 1 and the reasons where there is no place", async () => {
  await using cluster = await paper();
  const none = ["--memory-limit", "mini=100MiB", "--memory-limit", "studio=100MiB"];
  const { code, stdout, stderr } = await cluster.run(...none, "--json");
  deepEqual([code, stderr], [1, ""]);
  const { placements, rejected } = JSON.parse(stdout) as PreviewsJson;
  deepEqual(placements, []);
  ok(rejected.length > 0);
  const words = await cluster.run(...none);
  equal(words.code, 1);
  match(words.stderr, /^No place for /);
  match(words.stdout, /^SHARDING +TRANSPORT +NOT ON +REASON\n/);
  const forced = await cluster.json(...none, "--force");
  ok((forced.placements[0]?.shortages ?? []).length > 0);
});

Deno.test("place --topology says what is wrong with the file, the model or a node", async () => {
  const told = async (topology: unknown, ...flags: string[]) => {
    await using cluster = await paper(topology);
    const { code, stderr } = await cluster.run(...flags);
    return `${code} ${stderr}`;
  };
  match(await told("{"), /^1 error: Cannot read the topology "topology.json": .* JSON needed/);
  match(await told({ nodes: [] }), /^1 error: Cannot read the topology: found/);
  match(await told(TOPOLOGY, "--node", "macbook"), /^1 error: Cannot find node "macbook"/);
  const missing = await runIn({ cwd: "/nowhere" }, ["place", MODEL, "--topology", "x.json"]);
  equal(missing.code, 4);
  match(missing.stderr, /Cannot read the topology "x.json": .* a file of JSON needed/);
  const world = { cwd: "/" };
  const path = await Deno.makeTempFile({ suffix: ".json" });
  await Deno.writeTextFile(path, JSON.stringify(TOPOLOGY));
  const unknown = await runIn(world, ["place", "org/nothing-like-it", "--topology", path]);
  await Deno.remove(path);
  equal(unknown.code, 4);
  match(unknown.stderr, /No card of model "org\/nothing-like-it" found/);
});

Deno.test("place asks the node, and creates nothing", async () => {
  await using node = await FakeNode.start();
  const { gateway } = node;
  gateway.addCard(cardOf());
  gateway.emit(nodeStarted(A));
  const before = gateway.state();
  const { placements } = await node.json(["place", "tiny"]) as PreviewsJson;
  equal(placements.length, 1);
  deepEqual(placements[0]?.memoryBytesByNode, {
    [placements[0]?.nodeIds[0] ?? ""]: cardOf().storageSize.inBytes,
  });
  const named = await node.run(["place", "tiny", "--node", "test machine"]);
  match(named.stdout, /test machine 0-30 \(92.0 MiB\) +2048\n/);
  const none = await node.run(["place", "tiny", "--node", NODE, "--exclude", NODE, "--json"]);
  equal(none.code, 1);
  deepEqual((JSON.parse(none.stdout) as PreviewsJson).placements, []);
  equal((await node.run(["place", "nope"])).code, 4);
  equal(gateway.state(), before);
});

Deno.test("instance create takes the same flags", async () => {
  await using node = await FakeNode.start();
  const { gateway } = node;
  gateway.addCard(cardOf());
  gateway.emit(nodeStarted(A));
  const argv = ["instance", "create", "tiny", "--node", "test machine", "--exact"];
  const { instanceId } = await node.json(argv) as { instanceId: string };
  const instance = [...gateway.state().instances.values()].find((one) =>
    one.instanceId === instanceId
  );
  deepEqual(Object.keys(instance?.shardAssignments.nodeToRunner ?? {}), [NODE]);
  const huge = ["instance", "create", "tiny", "--memory-limit", "test=1", "--exclude", A];
  equal((await node.run(huge)).code, 1);
  equal((await node.run([...huge, "--force"])).code, 0);
});

Deno.test("place tells why fewer nodes than were asked for have no place", async () => {
  await using cluster = await paper();
  const { code, stdout } = await cluster.run("--min-nodes", "9");
  equal(code, 1);
  match(stdout, /Pipeline +MlxRing +Mac Mini, Mac Studio +9 nodes needed, 2 found\n/);
});

Deno.test("place tells a reason once for all choices of nodes, and namesakes by id", async () => {
  const names = Array.from({ length: 6 }, (_, at) => `n${at}`);
  await using cluster = await paper({
    nodes: names.map((id) => ({ id, friendlyName: "Mac", memoryAvailableBytes: 8 * GIB })),
    links: names.flatMap((source) =>
      names.filter((sink) => sink !== source).map((sink, at) => (
        { source, sink, address: `10.0.0.${at + 1}`, kind: "socket" }
      ))
    ),
  });
  const { stdout } = await cluster.run("--sharding", "pipeline");
  match(stdout, /\n1 +Pipeline +MlxRing +n0 0-16 /);
  const refused = stdout.split("NOT ON")[1]?.trim().split("\n").slice(1) ?? [];
  equal(refused.length, 1);
  match(refused[0] ?? "", /MlxJaccl +n0, n1; and 4 more +MlxJaccl: node n0 has RDMA/);
});
