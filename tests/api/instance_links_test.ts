import { deepEqual, equal, match, ok } from "node:assert/strict";
import { InstanceLinkId } from "../../core/ids.ts";
import { appOver, errorOf } from "./requests.ts";

const LINKS = "/v1/instance-links";

/** A node with two instances, whose links are switched on. */
function linked() {
  const app = appOver({ isDisaggregated: true });
  const ready = { type: "RunnerReady" as const, prefillTokensPerSecond: 700 };
  const [a, b] = [1, 2].map(() => app.gateway.placeModel(undefined, ready));
  ok(a && b);
  return { ...app, a, b, ends: { prefill_instances: [a], decode_instances: [b] } };
}

Deno.test("POST /v1/instance-links links instances, each once, and tells the link's id", async () => {
  const { post, get, a, b } = linked();
  const twice = { prefill_instances: [a, a], decode_instances: [b] };
  const reply = await (await post(LINKS, twice)).json();
  equal(reply.message, "Command received.");
  const link = { linkId: reply.link_id, prefillInstances: [a], decodeInstances: [b] };
  deepEqual(await (await get(LINKS)).json(), [link]);
  deepEqual(await (await get("/state/instanceLinks")).json(), { [reply.link_id]: link });
});

Deno.test("GET /v1/instance-links says which instances take no part, and why", async () => {
  const { post, get, gateway, a, b } = linked();
  const c = gateway.placeModel();
  await post(LINKS, { prefill_instances: [a, c], decode_instances: [b] });
  const [link] = await (await get(LINKS)).json();
  deepEqual(link.obstacles, { [c]: "its engine keeps keys and values that cannot travel" });
});

Deno.test("PUT /v1/instance-links/{id} creates or replaces, DELETE takes away", async () => {
  const { send, gateway, a, b, ends } = linked();
  const id = InstanceLinkId.parse("mine");
  const put = async (body: object) => (await send("PUT", `${LINKS}/${id}`, body)).status;
  equal(await put(ends), 200);
  equal(await put({ prefill_instances: [b], decode_instances: [a] }), 200);
  deepEqual(gateway.state().instanceLinks.get(id)?.prefillInstances, [b]);
  equal((await (await send("DELETE", `${LINKS}/${id}`)).json()).link_id, id);
  equal(gateway.state().instanceLinks.size, 0);
  equal((await errorOf(await send("DELETE", `${LINKS}/${id}`))).code, 404);
  equal((await send("PUT", `${LINKS}/${"x".repeat(129)}`, ends)).status, 400);
});

Deno.test("links that are switched off are none, and none can be made", async () => {
  const { get, send } = appOver();
  deepEqual(await (await get(LINKS)).json(), []);
  const routes = [["POST", LINKS], ["PUT", `${LINKS}/x`], ["DELETE", `${LINKS}/x`]];
  for (const [method = "", path = ""] of routes) {
    const { code, message } = await errorOf(await send(method, path, {}));
    deepEqual([code, /ENABLE_DISAGGREGATION unset/.test(message)], [404, true], path);
  }
  deepEqual(await (await get("/v1/feature-flags")).json(), { disaggregation: false });
  const { get: other } = linked();
  deepEqual(await (await other("/v1/feature-flags")).json(), { disaggregation: true });
});

Deno.test("POST /v1/instance-links says what it cannot read", async () => {
  const { post, ends } = linked();
  const error = async (body: object) => await errorOf(await post(LINKS, body));
  equal((await error({ ...ends, prefill_instances: [] })).param, "prefill_instances");
  equal((await error({ ...ends, decode: [] })).param, "decode");
  match((await error({ ...ends, decode_instances: ["nobody"] })).message, /"nobody" not found/);
});
