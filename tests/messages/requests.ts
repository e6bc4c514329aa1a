import { BODY_BYTES_MAX, type Request, toldBy, type World } from "./world.ts";
import { BAD_FIELDS, chatWith, TAKEN_FIELDS } from "./chat_fields.ts";
import { eventually } from "../support/eventually.ts";
import type { Told } from "./told.ts";

const CHAT = "/v1/chat/completions";

/** Every way to ask the chat route badly. */
export async function chatRequests(world: World): Promise<Told[]> {
  const told: Told[] = [];
  for (const [name, fields] of Object.entries({ ...BAD_FIELDS, ...TAKEN_FIELDS })) {
    const { by: _, ...rest } = await world.tell({ name, path: CHAT, body: chatWith(fields) });
    told.push({ ...rest, by: `POST ${CHAT} ${short(fields)}` });
  }
  return [...told, await queueFull(world)];
}

/** The fields alone: the rest of the body is the same in all cases. */
function short(fields: object): string {
  const json = JSON.stringify(fields, (_, value) => value === undefined ? "(absent)" : value);
  return json.length > 100 ? `${json.slice(0, 100)}…` : json;
}

/** The engine takes one request at a time: a second one is refused while the first is answered. */
async function queueFull(world: World): Promise<Told> {
  const content = Array.from({ length: 200 }, () => "word").join(" ");
  const messages = [{ role: "user", content }];
  const body = JSON.stringify(chatWith({ messages, stream: true }));
  const first = await fetch(world.url + CHAT, { method: "POST", body });
  const name = "more requests than the instance takes";
  const told = await world.tellOnce({ name, path: CHAT, body: chatWith({}) });
  await first.body?.cancel();
  await eventually("the first request is cancelled", async () => {
    const { outcome } = await world.tellOnce({ name, path: CHAT, body: chatWith({}) });
    return outcome.startsWith("200");
  });
  return { ...told, by: `POST ${CHAT} while another is answered` };
}

const deep = `${"[".repeat(70)}${"]".repeat(70)}`;

/** Bodies that are no request at all. */
const BODIES: readonly Request[] = [
  { name: "an empty body", path: CHAT, body: "" },
  { name: "a body that is not JSON", path: CHAT, body: "hello" },
  { name: "a body cut off", path: CHAT, body: '{"model": "tiny", "messages": [' },
  { name: "a body that is a list", path: CHAT, body: "[]" },
  { name: "a body that is null", path: CHAT, body: "null" },
  { name: "a body nested too deep", path: CHAT, body: deep },
  {
    name: "a form instead of JSON",
    path: CHAT,
    body: "model=tiny&stream=true",
    headers: { "content-type": "application/x-www-form-urlencoded" },
  },
  {
    name: "JSON under another content type",
    path: CHAT,
    body: chatWith({}),
    headers: { "content-type": "text/plain" },
  },
];

/** Routes, methods, queries and ids that do not exist. */
const ROUTES: readonly Request[] = [
  { name: "an unknown path", method: "GET", path: "/v1/nope" },
  { name: "an unknown path of another dialect", path: "/v1/responses", body: {} },
  { name: "a wrong method", method: "GET", path: CHAT },
  { name: "a wrong method of a path with an id", method: "PUT", path: "/instance/x" },
  { name: "events from before the first", method: "GET", path: "/events?since=-1" },
  { name: "more events than a page has", method: "GET", path: "/events?limit=100000" },
  {
    name: "events after one that is none",
    method: "GET",
    path: "/events",
    headers: { accept: "text/event-stream", "last-event-id": "last" },
  },
  { name: "a key that the state lacks", method: "GET", path: "/state/nodes/nobody" },
  { name: "an unknown model", method: "GET", path: "/v1/models/nope" },
  { name: "the prefix of two models", method: "GET", path: "/v1/models/other" },
  { name: "a misspelt model", method: "GET", path: "/v1/models/ohter-1b" },
  { name: "an unknown filter of models", method: "GET", path: "/v1/models?status=lost" },
  { name: "a model to forget that nobody added", method: "DELETE", path: "/models/custom/nope" },
  { name: "a model to forget that is in use", method: "DELETE", path: "/models/custom/tiny" },
  { name: "an unknown instance", method: "GET", path: "/instance/nope" },
  { name: "an unknown instance to delete", method: "DELETE", path: "/instance/nope" },
  { name: "an unknown trace", method: "GET", path: "/v1/traces/nope" },
  {
    name: "a trace whose id leads elsewhere",
    method: "GET",
    path: `/v1/traces/${encodeURIComponent("../../log")}/raw`,
  },
  {
    name: "a trace to delete whose id leads elsewhere",
    path: "/v1/traces/delete",
    body: { taskIds: ["../identity.key"] },
  },
  { name: "traces to delete that are not named", path: "/v1/traces/delete", body: {} },
  { name: "a wait for nothing", method: "GET", path: "/instance/await" },
  {
    name: "a wait for an unknown instance",
    method: "GET",
    path: "/instance/await?instance_id=nope",
  },
  { name: "a wait for an unknown model", method: "GET", path: "/instance/await?model_id=nope" },
  {
    name: "a wait until something else",
    method: "GET",
    path: "/instance/await?model_id=tiny&until=later",
  },
  {
    name: "a wait of no time at all",
    method: "GET",
    path: "/instance/await?model_id=tiny&timeout_seconds=soon",
  },
  {
    name: "a wait that is too long",
    method: "GET",
    path: "/instance/await?model_id=tiny&timeout_seconds=1e9",
  },
  {
    name: "a page of another site",
    path: CHAT,
    body: chatWith({}),
    headers: { origin: "http://elsewhere.example" },
  },
];

const PLACE = "/place_instance";
const place = (name: string, fields: object, path = PLACE): Request => (
  { name, path, body: { model_id: "other-1b", ...fields } }
);

const META = "/meta_instance";
const meta = (name: string, fields: object): Request => place(name, fields, META);
const query = (name: string, text: string, path = "/instance/previews"): Request => (
  { name, method: "GET", path: `${path}?${text}` }
);
const LINKS = "/v1/instance-links";

/** Meta-instances, previews and links that cannot be. */
const DECLARATIONS: readonly Request[] = [
  { name: "nothing to declare", path: META, body: {} },
  meta("an unknown model to declare", { model_id: "nope" }),
  meta("retries that are negative", { max_retries: -1 }),
  meta("retries without end", { max_retries: 1_001 }),
  meta("a pin that is none", { pin: "hard" }),
  meta("an id of one's own", { meta_instance_id: "mine" }),
  meta("a declared context longer than the model's", { config: { contextTokens: 4_096 } }),
  meta("a declared node that is excluded as well", {
    node_ids: ["test"],
    excluded_node_ids: ["test"],
  }),
  {
    ...meta("a key that is too long", {}),
    headers: { "idempotency-key": "k".repeat(257) },
  },
  { name: "an unknown meta-instance", method: "GET", path: "/meta_instances/nope" },
  { name: "an unknown meta-instance to delete", method: "DELETE", path: `${META}/nope` },
  { name: "an unknown meta-instance to retry", path: `${META}/nope/retry` },
  {
    name: "a watch that is neither on nor off",
    method: "GET",
    path: "/meta_instances/nope?watch=later",
  },
  query("previews of nothing", ""),
  query("previews of an unknown model", "model_id=nope"),
  query("previews with an unknown sharding", "model_id=tiny&sharding=Diagonal"),
  query("previews on few nodes", "model_id=tiny&min_nodes=few"),
  query("previews with a table that is no JSON", "model_id=tiny&node_layers=a:1"),
  query("previews with an unknown field", "model_id=tiny&nodes=a"),
  query(
    "a placement on more nodes than there are",
    "model_id=tiny&min_nodes=2",
    "/instance/placement",
  ),
  { name: "links that are switched off", path: LINKS, body: {} },
];

/** Links on a node that has them switched on. */
async function links(world: World): Promise<Told[]> {
  const [instanceId] = world.node.state().instances.keys();
  const bodies: Readonly<Record<string, object>> = {
    "a link without ends": {},
    "a link with an empty end": { prefill_instances: [], decode_instances: [instanceId] },
    "a link from an unknown instance": {
      prefill_instances: ["nobody"],
      decode_instances: [instanceId],
    },
  };
  const app = world.app({ isDisaggregated: true });
  const ask = async (name: string, method: string, path: string, body?: object) => {
    const init = { method, ...(body ? { body: JSON.stringify(body) } : {}) };
    const response = await app.request(path, init);
    return toldBy({ name, by: `${method} ${path}` }, response.status, await response.text());
  };
  const told: Told[] = [];
  for (const [name, body] of Object.entries(bodies)) {
    told.push(await ask(name, "POST", LINKS, body));
  }
  return [...told, await ask("an unknown link to delete", "DELETE", `${LINKS}/nope`)];
}

/** Placements and additions that cannot be. */
const PLACEMENTS: readonly Request[] = [
  { name: "nothing to place", path: PLACE, body: {} },
  place("an unknown model to place", { model_id: "nope" }),
  place("the prefix of two models to place", { model_id: "other" }),
  place("a model that is a number", { model_id: 5 }),
  place("an unknown sharding", { sharding: "Diagonal" }),
  place("sharding that the model does not support", {
    ...{ model_id: "exolabs/FLUX.1-Kontext-dev-4bit", sharding: "Tensor" },
  }),
  place("a transport that the model does not support", { instance_meta: "MlxJaccl" }),
  place("an unknown transport", { instance_meta: "MlxIbv" }),
  place("an unknown preference", { prefer: "cheapest" }),
  place("fewer nodes than one", { min_nodes: 0 }),
  place("more nodes than there are", { min_nodes: 2 }),
  place("nodes that are text", { node_ids: "all" }),
  place("an unknown node", { node_ids: ["somebody"] }),
  place("a node by no name", { node_ids: [""] }),
  place("an unknown node that is excluded", { excluded_node_ids: ["somebody"] }),
  place("a node that is excluded as well", { node_ids: ["test"], excluded_node_ids: ["test"] }),
  place("exactly no nodes", { exact: true }),
  place("layers that are none", { node_layers: { test: 0 } }),
  place("too few layers", { node_layers: { test: 1 } }),
  place("layers of a node twice", { node_layers: { test: 1, tes: 1 } }),
  place("memory that is text", { memory_limits: { test: "8GiB" } }),
  place("too little memory", { memory_limits: { test: 1 } }),
  place("a context of no tokens", { config: { contextTokens: 0 } }),
  place("a context longer than the model's", { config: { context_tokens: 4_096 } }),
  place("bits of a cache that no engine has", { config: { kvBits: 5 } }),
  place("no requests at once", { config: { max_concurrent_requests: 0 } }),
  place("too many requests at once", { config: { maxConcurrentRequests: 1_025 } }),
  place("a chunk of half a token", { config: { prefillChunkTokens: 0.5 } }),
  place("sampling that is text", { config: { samplingDefaults: "greedy" } }),
  place("a default that is too high", { config: { samplingDefaults: { topP: 1.5 } } }),
  place("an unknown default", { config: { samplingDefaults: { heat: 1 } } }),
  place("an unknown setting", { config: { contextTokenz: 1 } }),
  place("an unknown field of a placement", { modelid: "tiny" }),
  place("a model that does not fit in memory", { model_id: "huge" }),
  place("a wait for something else", {}, `${PLACE}?wait=steady`),
  place("a wait of negative time", {}, `${PLACE}?wait=ready&timeout_seconds=-1`),
  { name: "no instance to create", path: "/instance", body: {} },
  {
    name: "an instance of an unknown kind",
    path: "/instance",
    body: { instance: { MlxStarInstance: {} } },
  },
  {
    name: "an instance without shards",
    path: "/instance",
    body: { instance: { MlxRingInstance: { instanceId: "ID", shardAssignments: {} } } },
  },
  { name: "nothing to add", path: "/models/add", body: {} },
  { name: "an empty path to add", path: "/models/add", body: { path: "" } },
  { name: "a relative path to add", path: "/models/add", body: { path: "tiny.gguf" } },
  { name: "a model of a hub to add", path: "/models/add", body: { model_id: "org/model" } },
  { name: "an unknown field of an addition", path: "/models/add", body: { file: "/x" } },
];

/** Bodies, routes, placements: what the rest of the API refuses. */
export async function otherRequests(world: World): Promise<Told[]> {
  const told: Told[] = [];
  for (const request of [...BODIES, ...ROUTES, ...PLACEMENTS, ...DECLARATIONS]) {
    told.push(await world.tell(request));
  }
  return [...told, ...await links(world), ...await slowAndLarge(world), ...await guarded(world)];
}

/** How long a body may take where that is tried. */
const BODY_TIMEOUT_MS = 50;

/** Bodies that only a socket of one's own can send. */
async function slowAndLarge(world: World): Promise<Told[]> {
  const size = BODY_BYTES_MAX + 1;
  const chunk = `${size.toString(16)}\r\n${" ".repeat(size)}\r\n0\r\n\r\n`;
  const cases: Readonly<Record<string, string>> = {
    "a body announced too large": `content-length: ${size}\r\n\r\n{`,
    "a body that grows too large": `transfer-encoding: chunked\r\n\r\n${chunk}`,
    "a body that is not UTF-8": `content-length: 4\r\n\r\n{\xff\xfe}`,
  };
  const told: Told[] = [];
  const send = async (name: string, url: string, rest: string) => {
    const { status, body } = await overSocket(new URL(url), rest);
    told.push(toldBy({ name, by: `POST ${CHAT} over a socket of one's own` }, status, body));
    await world.isWell(name);
  };
  for (const [name, rest] of Object.entries(cases)) await send(name, world.url, rest);
  // A server of its own: on a busy machine whole bodies may take as long as this.
  await using impatient = await world.served({ bodyTimeoutMs: BODY_TIMEOUT_MS });
  const half = `content-length: 40\r\n\r\n{"model": "tiny",`;
  await send("a body of which half comes", impatient.url, half);
  return told;
}

/** Sends a request as it is written and reads the reply; the socket stays open until it has come. */
async function overSocket(
  { hostname, port, host }: URL,
  rest: string,
): Promise<{ status: number; body: string }> {
  using socket = await Deno.connect({ hostname, port: Number(port) });
  const text = `POST ${CHAT} HTTP/1.1\r\nhost: ${host}\r\nconnection: close\r\n${rest}`;
  const writer = socket.writable.getWriter();
  await writer.write(Uint8Array.from(text, (character) => character.charCodeAt(0)));
  let reply = "";
  const decoder = new TextDecoder();
  const buffer = new Uint8Array(16 * 1024);
  // The reply is whole once its JSON is: the server may wait for the rest of our body.
  while (!/\r\n\r\n.*\}\}/s.test(reply)) {
    const read = await socket.read(buffer);
    if (read === null) break;
    reply += decoder.decode(buffer.subarray(0, read));
  }
  const body = reply.slice(reply.indexOf("\r\n\r\n") + 4);
  return { status: Number(reply.split(" ")[1]), body: body.slice(body.indexOf("{")) };
}

/** What a node with a key says to who has none, and one that is stopping says to all. */
async function guarded(world: World): Promise<Told[]> {
  const app = world.app({ apiKey: "SECRET" });
  const ask = async (name: string, headers: Record<string, string>) => {
    const response = await app.request("/v1/models", { headers });
    return toldBy({ name, by: "GET /v1/models" }, response.status, await response.text());
  };
  const open = await world.app({}).request("/v1/models", { headers: { host: "rebound.example" } });
  const by = "GET /v1/models with Host: rebound.example";
  return [
    toldBy({ name: "a host that is not this machine", by }, open.status, await open.text()),
    await ask("no API key", {}),
    await ask("a wrong API key", { authorization: "Bearer GUESS" }),
  ];
}

/** What a node that has stopped says; the world is over after it. */
export async function stoppedNode(world: World): Promise<Told[]> {
  await world.node.stop();
  const chat = { name: "a chat with a node that has stopped", path: CHAT, body: chatWith({}) };
  return [
    await world.tellOnce({ name: "a node that has stopped", method: "GET", path: "/readyz" }),
    await world.tellOnce(chat),
  ];
}
