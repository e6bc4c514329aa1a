import { deepEqual, doesNotMatch, match, ok } from "node:assert/strict";
import { linkRemarks } from "../../cli/link_view.ts";
import { StatusView } from "../../cli/status_view.ts";
import { CommandId, runnerIdOf, TaskId } from "../../core/ids.ts";
import { MIB } from "../../core/units.ts";
import { engineStats } from "../support/engine_stats.ts";
import type { MetaInstanceId } from "../../core/ids.ts";
import { linkKey } from "../../core/telemetry.ts";
import { eventually } from "../support/eventually.ts";
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
      isWorker: true,
      machine: "x86",
      interfaces: [],
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
  match(stdout, /test machine +master, worker +x86 +- +MlxCpu +8\.0 GiB free of 16\.0 GiB/);
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
      group: { bytesSent: 500 * 3_072, framesSent: 1_000, waitedMs: 12.5 },
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
    bytesPerToken: 3_072,
  });
  const shown = (await node.run(["instance", "show", instanceId])).stdout;
  match(shown, /^tokens\/s {2}151\.4 generated, 0\.0 of prompts$/m);
  match(shown, /^queued {4}2 \(1\.3 s\)$/m);
  match(shown, /^kv {8}32\.0 MiB of 256\.0 MiB, of it 8\.0 MiB kept for later requests$/m);
  match(shown, /^ranks {5}3\.0 KiB between them for each token$/m);
  gateway.stats.set(runnerIdOf(instanceId, 0), engineStats({ generatedTokens: 500 }));
  doesNotMatch((await node.run(["instance", "show", instanceId])).stdout, /^ranks/m);
});

Deno.test("status shows where instances are once there are several nodes", async () => {
  await using node = await FakeNode.start();
  const { gateway } = node;
  gateway.placeModel();
  doesNotMatch((await node.run(["status"])).stdout, /MODEL +NODES/);
  gateway.emit(nodeStarted(B));
  const { stdout } = await node.run(["status"]);
  match(stdout, /INSTANCE +MODEL +NODES +STATUS/);
  match(stdout, /local\/tiny-0123abcd +test machine +ready/);
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

Deno.test("status says which instances wait for a node that is gone", async () => {
  await using node = await FakeNode.start();
  node.gateway.addCard(cardOf());
  node.gateway.placeModel(TINY, null);
  node.gateway.emit({ type: "NodeTimedOut", nodeId: NODE });
  match((await node.run(["status"])).stdout, /tiny-0123abcd +absent\b/);
});

const SOCKET = { type: "SocketConnection" as const, sinkMultiaddr: "/ip4/10.0.0.2/tcp/52414" };

Deno.test("status shows how nodes reach each other once there are several", async () => {
  await using node = await FakeNode.start();
  const { gateway } = node;
  doesNotMatch((await node.run(["status"])).stdout, /links|FROM/);
  gateway.emit(nodeStarted(B));
  match((await node.run(["status"])).stdout, /\nNo links\ntest machine and node-b do not reach/);
  const rdma = { type: "RdmaConnection" as const, sourceRdmaIface: "en5", sinkRdmaIface: "en4" };
  const back = { ...SOCKET, sinkMultiaddr: "/ip4/10.0.0.1/tcp/52414" };
  gateway.emit(
    { type: "TopologyEdgeCreated", connection: { source: NODE, sink: B, edge: SOCKET } },
    { type: "TopologyEdgeCreated", connection: { source: NODE, sink: B, edge: rdma } },
    { type: "TopologyEdgeCreated", connection: { source: B, sink: NODE, edge: back } },
  );
  const quality = { bandwidthBitsPerSecond: 9.4e9, latencyMs: 0.42 };
  gateway.links.set(linkKey(NODE, B, SOCKET), quality);
  const { stdout } = await node.run(["status"]);
  match(stdout, /FROM +TO +KIND +ADDRESS +BANDWIDTH +ROUND TRIP\n/);
  match(stdout, /test machine +node-b +socket +\/ip4\/10.0.0.2\/tcp\/52414 +9.4 Gbit\/s +0.4 ms\n/);
  match(stdout, /test machine +node-b +rdma, one way +en5 > en4 +- +-\n/);
  match(stdout, /node-b +test machine +socket +\/ip4\/10.0.0.1\/tcp\/52414 +- +-\n/);
  doesNotMatch(stdout, /reach/, "all do");
  gateway.links.set(linkKey(NODE, B, rdma), { bandwidthBitsPerSecond: 5e8 });
  match((await node.run(["status"])).stdout, /en5 > en4 +500.0 Mbit\/s +-\n/);
  const { links } = await node.json(["status"]) as { links: object[] };
  deepEqual(links[0], {
    source: NODE,
    sink: B,
    kind: "socket",
    address: SOCKET.sinkMultiaddr,
    isOneWay: false,
    ...quality,
  });
});

Deno.test("status explains a link that leads one way only", async () => {
  await using node = await FakeNode.start();
  const { gateway } = node;
  gateway.emit(
    nodeStarted(B),
    { type: "TopologyEdgeCreated", connection: { source: NODE, sink: B, edge: SOCKET } },
  );
  const { stdout } = await node.run(["status"]);
  match(stdout, /test machine +node-b +socket, one way/);
  match(
    stdout,
    /^test machine reaches node-b, node-b does not reach test machine: look for a firewall on test machine that keeps out TCP to its --libp2p-port$/m,
  );
  const { links } = await node.json(["status"]) as { links: { isOneWay: boolean }[] };
  deepEqual(links.map(({ isOneWay }) => isOneWay), [true]);
});

Deno.test("status tells nodes of one name apart, and what each is", async () => {
  await using node = await FakeNode.start();
  const { gateway } = node;
  const started = nodeStarted(B);
  ok(started.type === "NodeStarted");
  const own = { friendlyName: "test machine", machineModel: "Mac mini", backends: [] };
  const info = { ...started.info, ...own };
  gateway.emit(
    { type: "NodeStarted", nodeId: B, incarnation: 1, info },
    {
      type: "NodeGatheredInfo",
      nodeId: B,
      incarnation: 1,
      info: {
        type: "NodeNetworkInterfaces",
        interfaces: [
          { name: "lo0", ipAddress: "127.0.0.1", interfaceType: "unknown" },
          { name: "en0", ipAddress: "fe80::1", interfaceType: "ethernet" },
          { name: "en0", ipAddress: "10.0.0.2", interfaceType: "maybe_ethernet" },
          { name: "en1", ipAddress: "10.0.1.2", interfaceType: "unknown" },
          { name: "en2", ipAddress: "10.0.2.2", interfaceType: "wifi" },
        ],
      },
    },
    { type: "TopologyEdgeCreated", connection: { source: NODE, sink: B, edge: SOCKET } },
  );
  const { stdout } = await node.run(["status"]);
  match(
    stdout,
    /^node-b +test machine +- +Mac mini +10\.0\.0\.2 \(ethernet\), 10\.0\.1\.2, 1 more +- +/m,
  );
  match(stdout, /^node-1 +node-b +socket, one way/m);
  const { nodes } = await node.json(["status"]) as { nodes: { interfaces: object[] }[] };
  deepEqual(nodes[1]?.interfaces[0], {
    name: "en0",
    ipAddress: "10.0.0.2",
    type: "maybe_ethernet",
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

/** Runs `exo status --watch`, does one thing after each screen, then interrupts. */
async function watched(
  node: FakeNode,
  steps: readonly (() => void)[],
  { isTerminal = false, flags = [] as string[] } = {},
) {
  const interrupt = new AbortController();
  const left = [...steps];
  const onStdout = () => {
    const step = left.shift();
    if (step) step();
    else interrupt.abort();
  };
  const env = { TERM: "xterm" };
  const world = { signal: interrupt.signal, onStdout, isTerminal, env };
  return await node.run(["status", "--watch", ...flags], world);
}

Deno.test("status --watch shows each change, and ends with 130 when it is interrupted", async () => {
  await using node = await FakeNode.start();
  const { gateway } = node;
  const place = () => void gateway.placeModel();
  const { code, stdout, stderr } = await watched(node, [place]);
  deepEqual([code, stderr], [130, ""]);
  match(stdout, /No instances\n\nNo tasks\n\nNODE [^]*tiny-0123abcd +ready\n\nNo tasks\n$/);
  await eventually("nobody follows the state any more", () => gateway.listenerCount === 0);
});

Deno.test("status --watch --json is one object at each change", async () => {
  await using node = await FakeNode.start();
  const { gateway } = node;
  const place = () => void gateway.placeModel();
  const { code, stdout, stderr } = await watched(node, [place], { flags: ["--json"] });
  deepEqual([code, stderr], [130, ""]);
  const [first, second, ...more] = stdout.split("\n")
    .filter((line) => line !== "")
    .map((line) => StatusView.parse(JSON.parse(line)));
  deepEqual([first?.instances.length, second?.instances.length, more.length], [0, 1, 0]);
});

Deno.test("status --watch draws a terminal anew, line over line", async () => {
  await using node = await FakeNode.start();
  const { gateway } = node;
  const place = () => void gateway.placeModel();
  const { stdout } = await watched(node, [place], { isTerminal: true });
  const screens = stdout.split("\x1b[H");
  deepEqual([screens.length, screens[0]], [3, "\x1b[2J"]);
  for (const screen of screens.slice(1)) {
    ok(screen.startsWith("NODE ") && screen.endsWith("No tasks\x1b[K\n\x1b[J"), screen);
    doesNotMatch(screen, /[^K]\n/);
  }
});

Deno.test("status --watch notices what changes without an event", async () => {
  await using node = await FakeNode.start();
  const { gateway } = node;
  const instanceId = gateway.placeModel();
  const work = () =>
    void gateway.stats.set(runnerIdOf(instanceId, 0), engineStats({ running: 1, queued: 2 }));
  const { stdout } = await watched(node, [work], { flags: ["--json"] });
  const last = StatusView.parse(JSON.parse(stdout.trimEnd().split("\n").at(-1) ?? ""));
  deepEqual(last.instances[0]?.stats?.queued, 2);
});

Deno.test("status --watch ends with 3 when the node is gone", async () => {
  const node = await FakeNode.start();
  const stop = () => void node[Symbol.asyncDispose]();
  const { code, stderr } = await watched(node, [stop]);
  deepEqual(code, 3);
  match(stderr, /^error: Cannot reach a node at /);
});

Deno.test("linkRemarks() counts what is too much to tell", () => {
  const names = new Map(Array.from({ length: 6 }, (_, at) => [`n${at}`, `n${at}`]));
  const remarks = linkRemarks([], names);
  deepEqual(remarks.length, 9);
  deepEqual(remarks[8], "and 7 more such remarks");
  const seen = (source: string, sink: string) => ({
    source,
    sink,
    kind: "socket" as const,
    address: `/ip4/10.0.0.1/tcp/4${sink.slice(1)}`,
    isOneWay: true,
  });
  const three = new Map([["n1", "a"], ["n2", "b"], ["n3", "c"]]);
  deepEqual(linkRemarks([seen("n2", "n1"), seen("n3", "n2"), seen("n2", "n3")], three), [
    "b reaches a, a does not reach b: look for a firewall on b that keeps out TCP port 42",
    "a and c do not reach each other: no model can be divided between them",
  ]);
  const four = new Map([...three, ["n4", "d"]]);
  const both = [seen("n1", "n2"), seen("n2", "n1"), seen("n2", "n3"), seen("n3", "n2")];
  deepEqual(linkRemarks(both, four), [
    "d has no link: it has stopped, or its network is cut",
    "a and c do not reach each other: no model can be divided between them",
  ]);
});
