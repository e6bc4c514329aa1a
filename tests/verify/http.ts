import { createApp } from "../../api/server.ts";
import { cardOf, FakeGateway, TINY } from "../support/fake_gateway.ts";
import { Random } from "../support/random.ts";

/** Statuses that the API documents; a 500 is a defect of ours. */
const STATUSES = new Set([200, 400, 401, 403, 404, 405, 408, 409, 413, 429, 499, 503, 504]);

/** Requests that one node is asked before a fresh one takes over, so that states stay small. */
const REQUESTS_PER_NODE = 500;

/** Well-formed requests, to begin with. */
const SEEDS: readonly (readonly [string, string, unknown])[] = [
  ["GET", "/state", undefined],
  ["GET", "/state/instances", undefined],
  ["GET", "/v1/models", undefined],
  ["GET", `/v1/models/${TINY}`, undefined],
  ["GET", "/instance", undefined],
  ["GET", "/instance/i", undefined],
  ["DELETE", "/instance/i", undefined],
  ["GET", `/instance/await?model_id=${TINY}&timeout_seconds=1`, undefined],
  ["DELETE", `/models/custom/${TINY}`, undefined],
  ["POST", "/models/add", { path: "/models/tiny.gguf" }],
  ["POST", "/place_instance", {
    model_id: TINY,
    sharding: "Pipeline",
    instance_meta: "MlxRing",
    min_nodes: 1,
    node_ids: ["node-1"],
    config: { contextTokens: 100, samplingDefaults: { temperature: 0.5 } },
  }],
  ["POST", "/v1/chat/completions", {
    model: TINY,
    messages: [
      { role: "system", content: "Be brief" },
      { role: "user", content: [{ type: "text", text: "hi" }] },
    ],
    temperature: 0.5,
    top_p: 0.9,
    max_tokens: 5,
    stop: ["x"],
    seed: 1,
    stream: true,
    stream_options: { include_usage: true },
  }],
];

/** What takes the place of a value. */
const ODD: readonly unknown[] = [
  null,
  true,
  0,
  -1,
  1e308,
  2 ** 53,
  0.5,
  "",
  "\u0000",
  "💥".repeat(50),
  "x".repeat(10_000),
  [],
  {},
  [[[[]]]],
  { __proto__: null, constructor: 1 },
];

/** What was asked and what came of it, where something was wrong. */
export interface Finding {
  readonly request: string;
  readonly found: string;
}

/** What a run found, and how often it reached each status. */
export interface FuzzReport {
  /** What was wrong: an undocumented status, a defect, or a throw. */
  readonly findings: readonly Finding[];
  readonly statuses: ReadonlyMap<number, number>;
}

/** Asks the API mutated requests, in process. */
export async function fuzzHttp(seed: number, requests: number): Promise<FuzzReport> {
  const random = new Random(seed);
  const findings: Finding[] = [];
  const statuses = new Map<number, number>();
  let app = freshApp(findings);
  for (let n = 0; n < requests; n++) {
    if (n % REQUESTS_PER_NODE === 0) app = freshApp(findings);
    const [method, path, body] = mutateRequest(random);
    const request = `seed ${seed}, request ${n}: ${method} ${path} ${body ?? ""}`.slice(0, 500);
    try {
      const init = { method, ...(body === undefined ? {} : { body }) };
      const response = await app.request(path, init, { remoteAddress: "127.0.0.1" });
      statuses.set(response.status, (statuses.get(response.status) ?? 0) + 1);
      if (!STATUSES.has(response.status)) {
        findings.push({ request, found: `status ${response.status}: ${await response.text()}` });
      } else await response.body?.cancel();
    } catch (thrown) {
      findings.push({ request, found: `it threw ${String(thrown)}` });
    }
  }
  return { findings, statuses };
}

function freshApp(findings: Finding[]) {
  const gateway = new FakeGateway();
  gateway.addCard(cardOf());
  return createApp(gateway, {
    onDefect: (error, route) => findings.push({ request: route, found: `defect ${String(error)}` }),
  });
}

function mutateRequest(random: Random): [string, string, string | undefined] {
  const [method, path, body] = random.pick(SEEDS);
  const otherMethod = random.next() < 0.05 ? random.pick(["GET", "POST", "PUT", "DELETE"]) : method;
  const text = body === undefined || otherMethod === "GET" ? undefined : mutateBody(random, body);
  return [otherMethod, random.next() < 0.2 ? mutateText(random, path, "/?&=%.~[]") : path, text];
}

function mutateBody(random: Random, body: unknown): string {
  let value = body;
  for (let times = random.below(4); times > 0; times--) value = mutate(random, value);
  const text = JSON.stringify(value) ?? "";
  return random.next() < 0.2 ? mutateText(random, text, '{}[]",:\\0') : text;
}

/** The value with something in it replaced, removed or added. */
function mutate(random: Random, value: unknown): unknown {
  if (random.next() < 0.2 || value === null || typeof value !== "object") return random.pick(ODD);
  if (Array.isArray(value)) {
    const at = random.below(value.length + 1);
    if (random.next() < 0.3) return value.toSpliced(at, 1);
    return value.toSpliced(at, 1, mutate(random, value[at]));
  }
  const entries = Object.entries(value);
  const [key, inside] = entries[random.below(entries.length)] ?? ["added", 1];
  if (random.next() < 0.2) return Object.fromEntries(entries.filter(([name]) => name !== key));
  if (random.next() < 0.1) return { ...value, [`${key}x`]: random.pick(ODD) };
  return { ...value, [key]: mutate(random, inside) };
}

/** The text with a character replaced, removed or doubled. */
function mutateText(random: Random, text: string, special: string): string {
  const at = 1 + random.below(Math.max(1, text.length - 1));
  const other = random.pick([...special, "", text.slice(at, at + 3).repeat(2)]);
  return text.slice(0, at) + other + text.slice(at + 1);
}
