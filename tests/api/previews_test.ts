import { deepEqual, equal, match, ok } from "node:assert/strict";
import { internalTags } from "../../api/encode_state.ts";
import type { PreviewJson } from "../../api/previews.ts";
import { Instance } from "../../core/instance.ts";
import { GIB } from "../../core/units.ts";
import { A, B, nodeStarted } from "../support/fixtures.ts";
import { cardOf, NODE, TINY } from "../support/fake_gateway.ts";
import { appOver, errorOf } from "./requests.ts";

/** A node that knows TINY, and others beside it that reach each other both ways. */
function cluster(...others: (typeof A)[]) {
  const app = appOver();
  app.gateway.addCard(cardOf());
  const nodes = [NODE, ...others];
  for (const nodeId of others) app.gateway.emit(nodeStarted(nodeId));
  for (const [at, source] of nodes.entries()) {
    for (const [to, sink] of nodes.entries()) {
      if (at === to) continue;
      const sinkMultiaddr = `/ip4/10.0.0.${to + 1}/tcp/52414`;
      const edge = { type: "SocketConnection" as const, sinkMultiaddr };
      app.gateway.emit({ type: "TopologyEdgeCreated", connection: { source, sink, edge } });
    }
  }
  const previews = async (query: string): Promise<PreviewJson[]> => {
    const response = await app.get(`/instance/previews?model_id=tiny&${query}`);
    const body = await response.json();
    equal(response.status, 200, JSON.stringify(body));
    return body.previews;
  };
  return { ...app, previews };
}

Deno.test("GET /instance/previews shows where a model could go, and creates nothing", async () => {
  const { gateway, previews } = cluster();
  const before = gateway.state();
  const [best] = await previews("sharding=Pipeline&instance_meta=MlxRing");
  ok(best);
  const { instance, memory_delta_by_node: bytes, ...rest } = best;
  deepEqual(rest, {
    model_id: TINY,
    sharding: "Pipeline",
    instance_meta: "MlxRing",
    context_tokens: 2_048,
    node_ids: [NODE],
    shards: [{ nodeId: NODE, startLayer: 0, endLayer: 30, deviceRank: 0 }],
    error: null,
  });
  deepEqual(bytes, { [NODE]: cardOf().storageSize.inBytes });
  const parsed = Instance.parse(internalTags(instance));
  equal(parsed.shardAssignments.modelId, TINY);
  equal(gateway.state(), before);
});

Deno.test("GET /instance/previews tells true bytes, and why what cannot be cannot", async () => {
  const { previews } = cluster(A, B);
  const all = await previews("min_nodes=2");
  const several = all.filter(({ instance }) => instance !== null);
  deepEqual(several.map(({ node_ids }) => node_ids.length).sort(), [2, 3]);
  for (const { memory_delta_by_node, node_ids } of several) {
    const sum = Object.values(memory_delta_by_node ?? {}).reduce((sum, bytes) => sum + bytes, 0);
    ok(Math.abs(sum - cardOf().storageSize.inBytes) < 100, `${sum} bytes`);
    deepEqual(Object.keys(memory_delta_by_node ?? {}).sort(), [...node_ids].sort());
  }
  const tensor = all.find(({ sharding, error }) => sharding === "Tensor" && error !== null);
  match(tensor?.error ?? "", /Tensor/);
  deepEqual([tensor?.instance, tensor?.memory_delta_by_node], [null, null]);
});

Deno.test("GET /instance/previews keeps to what was asked for, nodes by name", async () => {
  const { previews } = cluster(A, B);
  const query = `node_ids=test&node_ids=${A}&exact=true&excluded_node_ids=${B}&min_nodes=2&` +
    "sharding=Pipeline&instance_meta=MlxRing&prefer=throughput&force=1&" +
    `memory_limits=${encodeURIComponent(JSON.stringify({ [A]: 8 * GIB }))}&` +
    `node_layers=${encodeURIComponent(JSON.stringify({ [A]: 20, [NODE]: 10 }))}&` +
    `config=${encodeURIComponent('{"context_tokens":100}')}`;
  const found = (await previews(query)).filter(({ error }) => error === null);
  deepEqual(
    found.map(({ node_ids, context_tokens }) => ({
      node_ids: node_ids.toSorted(),
      context_tokens,
    })),
    [{ node_ids: [NODE, A], context_tokens: 100 }],
  );
  const { shardAssignments } = Instance.parse(internalTags(found[0]?.instance));
  const layers = Object.values(shardAssignments.runnerToShard)
    .map(({ startLayer, endLayer }) => endLayer - startLayer);
  deepEqual(layers.sort(), [10, 20]);
});

Deno.test("GET /instance/previews and /placement say what they cannot read", async () => {
  const { get } = cluster();
  for (const path of ["/instance/previews", "/instance/placement"]) {
    const error = async (query: string) => await errorOf(await get(`${path}?${query}`));
    equal((await error("")).param, "model_id");
    equal((await error("model_id=nope")).exo_code, "model_not_found");
    equal((await error("model_id=tiny&sharding=MlxIbv")).param, "sharding");
    equal((await error("model_id=tiny&min_nodes=few")).param, "min_nodes");
    equal((await error("model_id=tiny&exact=perhaps")).param, "exact");
    equal((await error("model_id=tiny&node_layers=12")).param, "node_layers");
    equal((await error("model_id=tiny&config={")).param, "config");
    equal((await error("model_id=tiny&node_ids=nobody")).param, "node_ids");
    equal((await error("model_id=tiny&nodes=1")).param, "nodes");
  }
});

Deno.test("GET /instance/placement is the instance that would be made, or the reason", async () => {
  const { gateway, get } = cluster(A);
  const before = gateway.state();
  const response = await get("/instance/placement?model_id=tiny&min_nodes=2");
  const instance = Instance.parse(internalTags(await response.json()));
  equal(Object.keys(instance.shardAssignments.nodeToRunner).length, 2);
  equal(gateway.state(), before);
  const refused = await errorOf(await get("/instance/placement?model_id=tiny&min_nodes=3"));
  equal(refused.code, 400);
  match(refused.message, /3 nodes/);
});
