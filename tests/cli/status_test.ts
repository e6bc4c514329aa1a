import { deepEqual, doesNotMatch, match } from "node:assert/strict";
import { CommandId, runnerIdOf, TaskId } from "../../core/ids.ts";
import { MIB } from "../../core/units.ts";
import { engineStats } from "../support/engine_stats.ts";
import type { MetaInstanceId } from "../../core/ids.ts";
import { linkKey } from "../../core/telemetry.ts";
import { B, nodeStarted } from "../support/fixtures.ts";
import { cardOf, NODE, TINY } from "../support/fake_gateway.ts";
import { FakeNode } from "./fake_io.ts";

Deno.test("status shows nodes, memory, instances and tasks", async () => {
  await using node = await FakeNode.start();
  match((await node.run(["status"])).stdout, /No instances\n\nNo tasks\n$/);
  const instanceId = node.gateway.placeModel();
  const task = {
    type: "TextGeneration" as const,
    taskId: TaskId.parse("t-1"),
    commandId: CommandId.parse("t-1"),
    instanceId,
    modelId: TINY,
    apiNodeId: NODE,
    taskStatus: "Running" as const,
  };
  node.gateway.emit({ type: "TaskCreated", task });
  deepEqual(await node.json(["status"]), {
    nodes: [{
      nodeId: "node-1",
      name: "test machine",
      version: "0.1.0",
      isMaster: true,
      backends: ["MlxCpu"],
      ramTotalBytes: 16 * 2 ** 30,
      ramAvailableBytes: 8 * 2 ** 30,
    }],
    links: [],
    metaInstances: [],
    instances: [{ instanceId, modelId: TINY, status: "ready", nodeIds: ["node-1"] }],
    tasks: [{
      taskId: "t-1",
      type: "TextGeneration",
      instanceId,
      modelId: TINY,
      status: "Running",
    }],
  });
  const { stdout } = await node.run(["status"]);
  match(stdout, /test machine \(master\) +MlxCpu +8\.0 GiB free of 16\.0 GiB/);
  match(stdout, /t-1 +local\/tiny-0123abcd +Running/);
});

Deno.test("status shows how each instance's engine is doing", async () => {
  await using node = await FakeNode.start();
  const { gateway } = node;
  const instanceId = gateway.placeModel();
  const { stdout: before } = await node.run(["status"]);
  match(before, /INSTANCE +MODEL +STATUS +TOKENS\/S +RUNNING +QUEUED +BATCH +CACHED +KV/);
  doesNotMatch(before, /tiny-0123abcd +ready +\d/);
  gateway.stats.set(
    runnerIdOf(instanceId, 0),
    engineStats({
      running: 3,
      queued: 2,
      longestWaitMilliseconds: 1_250,
      batchSize: 3,
      promptTokens: 400,
      cachedTokens: 100,
      generatedTokens: 500,
      generationTokensPerSecond: 151.44,
      memory: {
        weightBytes: 90 * MIB,
        kvBytes: 24 * MIB,
        prefixCacheBytes: 8 * MIB,
        kvBudgetBytes: 256 * MIB,
      },
    }),
  );
  const { stdout } = await node.run(["status"]);
  match(stdout, /ready +151\.4 +3 +2 \(1\.3 s\) +3 +25 % +32\.0 MiB of 256\.0 MiB/);
  const { instances } = await node.json(["status"]) as { instances: { stats: object }[] };
  deepEqual(instances[0]?.stats, {
    running: 3,
    queued: 2,
    longestWaitMs: 1_250,
    batchSize: 3,
    cacheHitRatio: 0.25,
    requests: 0,
    preemptions: 0,
    promptTokens: 400,
    cachedTokens: 100,
    generatedTokens: 500,
    generationTokensPerSecond: 151.44,
    promptTokensPerSecond: 0,
    weightBytes: 90 * MIB,
    kvBytes: 24 * MIB,
    prefixCacheBytes: 8 * MIB,
    kvBudgetBytes: 256 * MIB,
  });
  const shown = (await node.run(["instance", "show", instanceId])).stdout;
  match(shown, /^tokens\/s {2}151\.4 generated, 0\.0 of prompts$/m);
  match(shown, /^queued {4}2 \(1\.3 s\)$/m);
  match(shown, /^kv {8}32\.0 MiB of 256\.0 MiB, of it 8\.0 MiB kept for later requests$/m);
});

Deno.test("status shows no figures of an instance that does not serve", async () => {
  await using node = await FakeNode.start();
  const { gateway } = node;
  const instanceId = gateway.placeModel();
  gateway.stats.set(runnerIdOf(instanceId, 0), engineStats({ running: 7 }));
  gateway.setRunners(instanceId, { type: "RunnerShuttingDown" });
  const { instances } = await node.json(["status"]) as { instances: object[] };
  deepEqual(instances, [
    { instanceId, modelId: TINY, status: "stopping", nodeIds: ["node-1"] },
  ]);
});

Deno.test("status says why an instance failed, after all that has columns", async () => {
  await using node = await FakeNode.start();
  const { gateway } = node;
  const instanceId = gateway.placeModel();
  doesNotMatch((await node.run(["status"])).stdout, /LAST ERROR/);
  gateway.emit({ type: "InstanceRetrying", instanceId, failureError: "no luck", notBefore: 9_000 });
  const { stdout } = await node.run(["status"]);
  match(stdout, /STATUS +TOKENS\/S .* KV +LAST ERROR\n/);
  match(stdout, /tiny-0123abcd +retrying +no luck\n/);
});

Deno.test("status shows how nodes reach each other once there are several", async () => {
  await using node = await FakeNode.start();
  const { gateway } = node;
  doesNotMatch((await node.run(["status"])).stdout, /links|FROM/);
  gateway.emit(nodeStarted(B));
  match((await node.run(["status"])).stdout, /\nNo links\n/);
  const socket = { type: "SocketConnection" as const, sinkMultiaddr: "/ip4/10.0.0.2/tcp/52414" };
  const rdma = { type: "RdmaConnection" as const, sourceRdmaIface: "en5", sinkRdmaIface: "en4" };
  for (const edge of [socket, rdma]) {
    gateway.emit({ type: "TopologyEdgeCreated", connection: { source: NODE, sink: B, edge } });
  }
  const quality = { bandwidthBitsPerSecond: 9.4e9, latencyMs: 0.42 };
  gateway.links.set(linkKey(NODE, B, socket), quality);
  const { stdout } = await node.run(["status"]);
  match(stdout, /test machine +node-b +socket +\/ip4\/10.0.0.2\/tcp\/52414 +9.4 Gbit\/s +0.4 ms\n/);
  match(stdout, /test machine +node-b +rdma +en5 > en4 +- +-\n/);
  gateway.links.set(linkKey(NODE, B, rdma), { bandwidthBitsPerSecond: 5e8 });
  match((await node.run(["status"])).stdout, /en5 > en4 +500.0 Mbit\/s +-\n/);
  const { links } = await node.json(["status"]) as { links: object[] };
  deepEqual(links[0], {
    source: NODE,
    sink: B,
    kind: "socket",
    address: socket.sinkMultiaddr,
    ...quality,
  });
});

Deno.test("status shows what is kept running, with the reason of what is not", async () => {
  await using node = await FakeNode.start();
  const { gateway } = node;
  gateway.addCard(cardOf());
  const { metaInstanceId } = await node.json(["meta-instance", "create", "tiny"]) as {
    metaInstanceId: MetaInstanceId;
  };
  match((await node.run(["status"])).stdout, /tiny-0123abcd +starting +0 of 3 +id-\d+\n/);
  gateway.emit({ type: "MetaInstanceParked", metaInstanceId, reason: "no luck" });
  match((await node.run(["status"])).stdout, /tiny-0123abcd +parked .* no luck\n/);
});
