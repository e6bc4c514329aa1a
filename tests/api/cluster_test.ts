import { deepEqual, equal, match } from "node:assert/strict";
import { internalTags } from "../../api/encode_state.ts";
import { Instance } from "../../core/instance.ts";
import { type NodeId, runnerIdOf } from "../../core/ids.ts";
import { engineStats } from "../support/engine_stats.ts";
import type { GatheredInfo } from "../../core/node_info.ts";
import { linkKey, type NodeSystem } from "../../core/telemetry.ts";
import { A, B, nodeStarted } from "../support/fixtures.ts";
import { NODE, TINY } from "../support/fake_gateway.ts";
import { appOver, errorOf } from "./requests.ts";

Deno.test("GET /node_id is a bare JSON string", async () => {
  const { get } = appOver();
  equal(await (await get("/node_id")).text(), '"node-1"');
});

Deno.test("POST /onboarding is remembered", async () => {
  const { get, post } = appOver();
  const completed = async () => await (await get("/onboarding")).json();
  deepEqual(await completed(), { completed: false });
  deepEqual(await (await post("/onboarding", {})).json(), { completed: true });
  deepEqual(await completed(), { completed: true });
});

Deno.test("GET /state has external tags, camelCase and the latest values", async () => {
  const { gateway, get } = appOver();
  gateway.placeModel(TINY, { type: "RunnerLoading", layersLoaded: 3, totalLayers: 30 });
  const state = await (await get("/state")).json();
  deepEqual(Object.keys(state), [
    "lastEventAppliedIdx",
    "session",
    "lastSeen",
    "instances",
    "instanceRetries",
    "instanceStats",
    "runners",
    "prefillTokensPerSecond",
    "metaInstances",
    "instanceLinks",
    "tasks",
    "downloads",
    "topology",
    "thunderboltBridgeCycles",
    "nodeIdentities",
    "nodeBackends",
    "nodeNetwork",
    "nodeThunderbolt",
    "nodeThunderboltBridge",
    "nodeRdmaCtl",
    "nodeMemory",
    "nodeDisk",
    "nodeSystem",
    "customModelCards",
  ]);
  deepEqual(state.thunderboltBridgeCycles, []);
  deepEqual(state.session, { masterNodeId: "node-1", epoch: 1 });
  const assignments = state.instances["id-1"].MlxRingInstance.shardAssignments;
  equal(assignments.runnerToShard["id-1:0"].PipelineShardMetadata.endLayer, 30);
  deepEqual(state.runners["id-1:0"], {
    RunnerLoading: { layersLoaded: 3, totalLayers: 30, incarnation: 1, since: 1000 },
  });
  deepEqual(state.nodeMemory["node-1"].ramTotal, { inBytes: 16 * 2 ** 30 });
  deepEqual(state.nodeBackends, { "node-1": ["MlxCpu"] });
  equal(state.nodeIdentities["node-1"].friendlyName, "test machine");
  deepEqual(state.downloads["node-1"][0].DownloadCompleted, {
    nodeId: "node-1",
    modelId: TINY,
    total: { inBytes: 92 * 2 ** 20 },
    readOnly: true,
  });
});

Deno.test("GET /state has when each node was heard of last, whatever its clock began with", async () => {
  const { gateway, get } = appOver();
  gateway.emit(nodeStarted(A), nodeStarted(B));
  gateway.lastSeen.set(B, gateway.uptime() - 2_000);
  deepEqual(await (await get("/state/lastSeen")).json(), {
    [NODE]: new Date(gateway.now()).toISOString(),
    [B]: new Date(gateway.now() - 2_000).toISOString(),
  });
});

Deno.test("GET /state has the topology, with how good each link is", async () => {
  const { gateway, get } = appOver();
  const socket = { type: "SocketConnection" as const, sinkMultiaddr: "/ip4/10.0.0.2/tcp/52414" };
  const rdma = {
    type: "RdmaConnection" as const,
    sourceRdmaIface: "rdma_en5",
    sinkRdmaIface: "rdma_en4",
  };
  gateway.emit(
    nodeStarted(B),
    { type: "TopologyEdgeCreated", connection: { source: NODE, sink: B, edge: socket } },
    { type: "TopologyEdgeCreated", connection: { source: NODE, sink: B, edge: rdma } },
  );
  const quality = { bandwidthBitsPerSecond: 1e9, latencyMs: 0.4 };
  gateway.links.set(linkKey(NODE, B, socket), quality);
  deepEqual(await (await get("/state/topology")).json(), {
    nodes: [NODE, B],
    connections: {
      [NODE]: {
        [B]: [
          {
            sinkMultiaddr: {
              address: socket.sinkMultiaddr,
              address_type: "ip4",
              ip_address: "10.0.0.2",
              port: 52_414,
            },
            ...quality,
          },
          { sourceRdmaIface: "rdma_en5", sinkRdmaIface: "rdma_en4" },
        ],
      },
    },
  });
});

Deno.test("GET /state has what each machine has left, and how busy it is", async () => {
  const { gateway, get } = appOver();
  const at = async (path: string) => await (await get(`/state/${path}`)).json();
  deepEqual([await at("nodeDisk"), await at("nodeSystem")], [{}, {}]);
  gateway.measured = {
    memory: new Map([[NODE, {
      ramTotalBytes: 8,
      ramAvailableBytes: 4,
      swapTotalBytes: 2,
      swapAvailableBytes: 1,
      gpu: { totalBytes: 80, availableBytes: 70 },
      loadedRunners: [],
    }], [B, { ramTotalBytes: 8, ramAvailableBytes: 4 }]]),
    disk: new Map([[NODE, { totalBytes: 100, availableBytes: 10 }]]),
    system: new Map<NodeId, NodeSystem>([
      [NODE, {
        cpuUsage: 0.25,
        performanceCoreUsage: 0.5,
        efficiencyCoreUsage: 0,
        gpuUsage: 1,
        cpuTemperatureCelsius: 50,
        gpuTemperatureCelsius: 60,
        powerWatts: 12.5,
      }],
      [B, { cpuUsage: 0.25, cpuTemperatureCelsius: 50 }],
    ]),
  };
  deepEqual(await at("nodeMemory"), {
    [NODE]: {
      ramTotal: { inBytes: 8 },
      ramAvailable: { inBytes: 4 },
      swapTotal: { inBytes: 2 },
      swapAvailable: { inBytes: 1 },
      gpuTotal: { inBytes: 80 },
      gpuAvailable: { inBytes: 70 },
    },
    [B]: { ramTotal: { inBytes: 8 }, ramAvailable: { inBytes: 4 } },
  });
  deepEqual(await at(`nodeDisk/${NODE}`), { total: { inBytes: 100 }, available: { inBytes: 10 } });
  deepEqual(await at("nodeSystem"), {
    [NODE]: {
      gpuUsage: 1,
      temp: 60,
      sysPower: 12.5,
      pcpuUsage: 0.5,
      ecpuUsage: 0,
      cpuUsage: 0.25,
    },
    [B]: { temp: 50, pcpuUsage: 0.25, cpuUsage: 0.25 },
  });
});

Deno.test("GET /state has what nodes have found out about themselves", async () => {
  const { gateway, get } = appOver();
  const told = (info: GatheredInfo) =>
    gateway.emit({ type: "NodeGatheredInfo", nodeId: NODE, incarnation: 1, info });
  const interfaces = [
    { name: "en0", ipAddress: "10.0.0.1", interfaceType: "ethernet" as const },
  ];
  const idents = [{ rdmaInterface: "rdma_en5", domainUuid: "u-1", linkSpeed: "" }];
  const status = { enabled: true, exists: true, serviceName: "Thunderbolt Bridge" };
  const at = async (path: string) => await (await get(`/state/${path}`)).json();
  deepEqual([await at("nodeRdmaCtl"), await at("nodeThunderboltBridge")], [{}, {}]);
  told({ type: "NodeNetworkInterfaces", interfaces });
  told({ type: "MacThunderboltIdentifiers", idents });
  told({ type: "ThunderboltBridgeInfo", status });
  told({ type: "RdmaCtlStatus", enabled: false });
  deepEqual(await at(`nodeNetwork/${NODE}`), { interfaces });
  deepEqual(await at(`nodeThunderbolt/${NODE}`), { interfaces: idents });
  deepEqual(await at(`nodeThunderboltBridge/${NODE}`), status);
  deepEqual(await at(`nodeRdmaCtl/${NODE}`), { enabled: false });
  equal(await at(`nodeIdentities/${NODE}/modelId`), "Unknown");
});

Deno.test("GET /state has how fast runners prefill for others", async () => {
  const { gateway, get } = appOver();
  const id = gateway.placeModel(TINY, { type: "RunnerReady", prefillTokensPerSecond: 500 });
  gateway.setRunners(id, { type: "RunnerRunning" });
  gateway.placeModel("local/other-0123abcd");
  const paces = await (await get("/state/prefillTokensPerSecond")).json();
  deepEqual(paces, { [runnerIdOf(id, 0)]: 500 });
});

Deno.test("GET /state/{path} walks keys and indices, with encoded slashes in keys", async () => {
  const { gateway, get } = appOver();
  gateway.placeModel();
  const value = async (path: string) => await (await get(`/state/${path}`)).json();
  equal(await value("lastEventAppliedIdx"), gateway.state().lastEventAppliedIdx);
  equal(await value(`customModelCards/${encodeURIComponent(TINY)}/nLayers`), 30);
  equal(await value("downloads/node-1/0/DownloadCompleted/readOnly"), true);
  equal(await value("topology//nodes/0/"), "node-1");
});

Deno.test("GET /state has the stats of instances whose runner has told", async () => {
  const { gateway, get } = appOver();
  const [told, silent] = [gateway.placeModel(), gateway.placeModel("local/other-0123abcd")];
  gateway.stats.set(runnerIdOf(told, 0), engineStats({ running: 2, queued: 1 }));
  // Of a runner that nobody places any more.
  gateway.stats.set(runnerIdOf(gateway.newId() as typeof told, 0), engineStats());
  const { instanceStats } = await (await get("/state")).json();
  deepEqual(Object.keys(instanceStats), [told]);
  deepEqual(instanceStats[told], engineStats({ running: 2, queued: 1 }));
  equal(await (await get(`/state/instanceStats/${told}/queued`)).json(), 1);
  equal((await get(`/state/instanceStats/${silent}`)).status, 404);
});

Deno.test("GET /state/{path} is a 404 where nothing is, also below a scalar", async () => {
  const { get } = appOver();
  for (const path of ["a/b/c", "lastEventAppliedIdx/x", "constructor", "topology/nodes/7"]) {
    const response = await get(`/state/${path}`);
    equal(response.status, 404, path);
    const dotted = path.replaceAll("/", ".");
    equal((await errorOf(response)).message, `unable to find path '${dotted}' in state json`);
  }
});

Deno.test("GET /readyz is a 503 with the reason until the node is ready", async () => {
  const { gateway, get } = appOver();
  gateway.ready = { ready: false, reason: "no master is known", hint: "wait for one" };
  const response = await get("/readyz");
  equal(response.status, 503);
  equal(response.headers.get("retry-after"), "1");
  match((await errorOf(response)).message, /no master is known/);
  equal((await get("/healthz")).status, 200);
  gateway.ready = { ready: true };
  equal((await get("/readyz")).status, 200);
});

Deno.test("internalTags() reads back what externalTags() wrote", async () => {
  const { gateway, get } = appOver();
  const instanceId = gateway.placeModel();
  const external = await (await get(`/instance/${instanceId}`)).json();
  deepEqual(Instance.parse(internalTags(external)), gateway.state().instances.get(instanceId));
});
