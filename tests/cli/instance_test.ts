import { deepEqual, equal, match, ok } from "node:assert/strict";
import { MetaInstanceId } from "../../core/ids.ts";
import { A, instanceOf, nodeStarted, reported } from "../support/fixtures.ts";
import { cardOf, NODE, TINY } from "../support/fake_gateway.ts";
import { FakeNode } from "./fake_io.ts";

/** Makes the runners of a new instance load, and come to the given end once they are watched. */
function runnersThat(node: FakeNode, end: "ready" | "fail"): void {
  const { gateway } = node;
  const reason = "Cannot load: bad weights";
  const status = end === "ready"
    ? { type: "RunnerReady" as const }
    : { type: "RunnerFailed" as const, reason, diagnostics: [] };
  gateway.afterCommand = (command) => {
    if (command.type !== "PlaceInstance") return;
    const { instanceId } = command;
    gateway.setRunners(instanceId, { type: "RunnerLoading", layersLoaded: 3, totalLayers: 30 });
    gateway.onWatched = () => gateway.setRunners(instanceId, status);
  };
}

Deno.test("instance create answers once the instance exists", async () => {
  await using node = await FakeNode.start();
  node.gateway.addCard(cardOf());
  const created = await node.json(["instance", "create", "tiny", "--context", "512"]);
  const [instance] = node.gateway.state().instances.values();
  deepEqual(created, { instanceId: instance?.instanceId });
  deepEqual(instance?.config, { contextTokens: 512 });
  const words = await node.run(["instance", "create", "tiny"]);
  match(words.stdout, /^Instance \S+ of local\/tiny-0123abcd is created\n$/);
});

Deno.test("instance create takes a configuration, and instance show tells it", async () => {
  await using node = await FakeNode.start();
  node.gateway.addCard(cardOf());
  const flags = "--context 512 --kv-bits 4 --max-concurrent-requests 2 --prefill-chunk 64 " +
    "--temperature 0.2 --top-p 0.9 --top-k 40 --min-p 0.1 --repetition-penalty 1.1 " +
    "--repetition-context 64 --presence-penalty -0.5 --frequency-penalty 0.25";
  const argv = ["instance", "create", "tiny", ...flags.split(" ")];
  const { instanceId } = await node.json(argv) as { instanceId: string };
  const config = {
    contextTokens: 512,
    kvBits: 4,
    maxConcurrentRequests: 2,
    prefillChunkTokens: 64,
    samplingDefaults: {
      temperature: 0.2,
      topP: 0.9,
      topK: 40,
      minP: 0.1,
      repetitionPenalty: 1.1,
      repetitionContextTokens: 64,
      presencePenalty: -0.5,
      frequencyPenalty: 0.25,
    },
  };
  const [instance] = node.gateway.state().instances.values();
  deepEqual(instance?.config, config);
  const shown = await node.json(["instance", "show", instanceId]) as { config: object };
  deepEqual(shown.config, config);
  const { stdout } = await node.run(["instance", "show", instanceId]);
  match(
    stdout,
    /^config {4}context 512 tokens, KV of 4 bits, 2 at once, 64 prompt tokens a step$/m,
  );
  match(stdout, /^sampling {2}temperature 0\.2, top-p 0\.9, .*, frequency-penalty 0\.25$/m);
});

Deno.test("instance show says nothing of a configuration that nobody made", async () => {
  await using node = await FakeNode.start();
  const instanceId = node.gateway.placeModel();
  const { stdout } = await node.run(["instance", "show", instanceId]);
  equal(/config|sampling/.test(stdout), false, stdout);
  equal("config" in (await node.json(["instance", "show", instanceId]) as object), false);
});

Deno.test("instance create --wait shows progress on stderr and ends when it is ready", async () => {
  await using node = await FakeNode.start();
  node.gateway.addCard(cardOf());
  runnersThat(node, "ready");
  const { code, stdout, stderr } = await node.run(["instance", "create", "tiny", "--wait"]);
  equal(code, 0, stderr);
  match(stdout, /is ready\n$/);
  match(stderr, /^Loading layers 3\/30$/m);
});

Deno.test("instance create --wait draws a bar on a terminal, and nothing with --json", async () => {
  await using node = await FakeNode.start();
  node.gateway.addCard(cardOf());
  runnersThat(node, "ready");
  const argv = ["instance", "create", "tiny", "--wait"];
  const drawn = await node.run(argv, { isTerminal: true });
  equal(drawn.code, 0);
  match(drawn.stderr, /Loading layers .*░.* 3\/30/);
  const { stdout, stderr } = await node.run([...argv, "--json"], { isTerminal: true });
  equal(stderr, "");
  deepEqual(Object.keys(JSON.parse(stdout)), ["instanceId"]);
});

Deno.test("instance create --wait exits with 1 and the reason when a runner fails", async () => {
  await using node = await FakeNode.start();
  node.gateway.addCard(cardOf());
  runnersThat(node, "fail");
  const { code, stderr } = await node.run(["instance", "create", "tiny", "--wait"]);
  equal(code, 1);
  match(stderr, /error: Instance \S+ failed: test machine: Cannot load: bad weights/);
});

Deno.test("instance await exits with 5 when time is up, with 4 for an unknown id", async () => {
  await using node = await FakeNode.start();
  const id = node.gateway.placeModel(TINY, null);
  const late = await node.run(["instance", "await", id, "--timeout", "0.005"]);
  equal(late.code, 5);
  match(late.stderr, /is not ready after 0.005 s/);
  equal((await node.run(["instance", "await", "nope"])).code, 4);
});

Deno.test("instance await answers at once for what is ready", async () => {
  await using node = await FakeNode.start();
  const instanceId = node.gateway.placeModel();
  const status = "ready";
  deepEqual(await node.json(["instance", "await", instanceId]), { instanceId, status });
});

Deno.test("instance create exits with 4 for an unknown model, 1 if it cannot fit", async () => {
  await using node = await FakeNode.start();
  node.gateway.addCard(cardOf());
  const unknown = await node.run(["instance", "create", "tinny-0123"]);
  equal(unknown.code, 4);
  match(unknown.stderr, /hint: did you mean local\/tiny-0123abcd\?/);
  const wide = await node.run(["instance", "create", "tiny", "--min-nodes", "9", "--json"]);
  equal(wide.code, 1);
  equal(JSON.parse(wide.stderr).error.code, "placement_failed");
});

Deno.test("instance list, show and delete tell of instances in words and as JSON", async () => {
  await using node = await FakeNode.start();
  deepEqual(await node.json(["instance", "list"]), []);
  const instanceId = node.gateway.placeModel(TINY, {
    type: "RunnerLoading",
    layersLoaded: 3,
    totalLayers: 30,
  });
  const layers = { layersLoaded: 3, totalLayers: 30 };
  const nodeIds = ["node-1"];
  const summary = { instanceId, modelId: TINY, status: "loading", ...layers, nodeIds };
  deepEqual(await node.json(["instance", "list"]), [summary]);
  match((await node.run(["instance", "list"])).stdout, /^INSTANCE +MODEL +STATUS +NODES\n/);
  const shown = await node.json(["instance", "show", instanceId]) as { instance: object };
  ok("MlxRingInstance" in shown.instance);
  match((await node.run(["instance", "show", instanceId])).stdout, /status {4}loading 3\/30/);
  deepEqual(await node.json(["instance", "delete", instanceId]), { instanceId });
  for (const verb of ["show", "delete"]) {
    equal((await node.run(["instance", verb, instanceId])).code, 4);
  }
});

Deno.test("instance list shows each rank where they differ, and for what it was made", async () => {
  await using node = await FakeNode.start();
  const { gateway } = node;
  gateway.emit(nodeStarted(A));
  const metaInstanceId = MetaInstanceId.parse("wish");
  const instance = { ...instanceOf("i", [NODE, A], { card: cardOf() }), metaInstanceId };
  gateway.emit({ type: "InstanceCreated", instance });
  gateway.emit(reported("i:0", "RunnerReady"), reported("i:1", "RunnerLoading"));
  const words = async () => (await node.run(["instance", "list"])).stdout;
  match(await words(), /ready, loading 1\/16 +test machine 0-29, node-a 0-29\n/);
  const [summary] = await node.json(["instance", "list"]) as { ranks: object[] }[];
  const part = { startLayer: 0, endLayer: 30, sharding: "Pipeline" };
  deepEqual(summary, {
    instanceId: "i",
    modelId: TINY,
    status: "loading",
    layersLoaded: 1,
    totalLayers: 16,
    nodeIds: [NODE, A],
    ranks: [
      { ...part, rank: 0, nodeId: NODE, status: "ready" },
      { ...part, rank: 1, nodeId: A, status: "loading", layersLoaded: 1, totalLayers: 16 },
    ],
    metaInstanceId,
  });
  gateway.emit(reported("i:1", "RunnerReady"));
  match(await words(), / ready +test machine/);
  const shown = (await node.run(["instance", "show", "i"])).stdout;
  match(
    shown,
    /rank 0 {4}test machine, layers 0-29, ready\nrank 1 {4}node-a, layers 0-29, ready\n/,
  );
});

Deno.test("instance await shows how far each rank is", async () => {
  await using node = await FakeNode.start();
  const { gateway } = node;
  gateway.emit(nodeStarted(A));
  const instance = instanceOf("i", [NODE, A], { card: cardOf() });
  gateway.emit({ type: "InstanceCreated", instance });
  gateway.emit(reported("i:0", "RunnerLoaded"), reported("i:1", "RunnerLoading"));
  gateway.onWatched = () => {
    gateway.emit(reported("i:0", "RunnerReady"), reported("i:1", "RunnerReady"));
  };
  const { stderr } = await node.run(["instance", "await", "i"]);
  match(stderr, /Loading layers: test machine loaded, node-a loading 1\/16/);
});

Deno.test("instance show tells which part of each layer a tensor-parallel rank has", async () => {
  await using node = await FakeNode.start();
  const { gateway } = node;
  gateway.emit(nodeStarted(A));
  const instance = instanceOf("i", [NODE, A], { card: cardOf() });
  for (const shard of Object.values(instance.shardAssignments.runnerToShard)) {
    Object.assign(shard, { type: "TensorShardMetadata" });
  }
  gateway.emit({ type: "InstanceCreated", instance });
  const shown = (await node.run(["instance", "show", "i"])).stdout;
  match(shown, /rank 1 {4}node-a, layers 0-29 \(1\/2 of each\), starting/);
});
