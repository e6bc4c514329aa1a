import { deepEqual, equal, match } from "node:assert/strict";
import { internalTags } from "../../api/encode_state.ts";
import { Instance } from "../../core/instance.ts";
import { runnerIdOf } from "../../core/ids.ts";
import { engineStats } from "../support/engine_stats.ts";
import { TINY } from "../support/fake_gateway.ts";
import { appOver, errorOf } from "./requests.ts";

Deno.test("GET /node_id is a bare JSON string", async () => {
  const { get } = appOver();
  equal(await (await get("/node_id")).text(), '"node-1"');
});

Deno.test("GET /state has external tags, camelCase and the latest values", async () => {
  const { gateway, get } = appOver();
  gateway.placeModel(TINY, { type: "RunnerLoading", layersLoaded: 3, totalLayers: 30 });
  const state = await (await get("/state")).json();
  deepEqual(Object.keys(state), [
    "lastEventAppliedIdx",
    "session",
    "instances",
    "instanceRetries",
    "instanceStats",
    "runners",
    "tasks",
    "downloads",
    "topology",
    "thunderboltBridgeCycles",
    "nodeIdentities",
    "nodeBackends",
    "nodeMemory",
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
