import { ApiClient } from "../../api/client.ts";
import { AppError, ERRORS } from "../../core/errors.ts";
import { tinyCheckpoint } from "../support/checkpoint.ts";
import { MeasuredNode, type NodeSample } from "../support/measured_node.ts";
import { Random } from "../support/random.ts";
import { type RawRequest, rawRequest } from "../support/raw_http.ts";
import { TempDir } from "../support/temp_dir.ts";

/** Statuses that the API documents; a 500 is a defect of ours. */
const STATUSES = new Set([200, 400, 401, 403, 404, 405, 408, 409, 413, 429, 499, 503, 504]);

/** A request before it is mutated. */
type Seed = readonly [method: string, path: string, body?: unknown];

/**
 * Well-formed requests that change nothing; `$MODEL` and the like become names that the node knows,
 * and `$HUGE` is a model that fits nowhere.
 */
const SEEDS: readonly Seed[] = [
  ["GET", "/state"],
  ["GET", "/state/instances"],
  ["GET", "/events?since=0&limit=10"],
  ["GET", "/onboarding"],
  ["GET", "/v1/models"],
  ["GET", "/v1/models/$MODEL"],
  ["GET", "/instance"],
  ["GET", "/instance/$INSTANCE"],
  ["DELETE", "/instance/none"],
  ["GET", "/instance/await?model_id=$MODEL&timeout_seconds=1"],
  ["DELETE", "/models/custom/none"],
  ["POST", "/models/add", { path: "$PATH" }],
  ["POST", "/place_instance", {
    model_id: "$HUGE",
    sharding: "Pipeline",
    instance_meta: "MlxRing",
    min_nodes: 1,
    node_ids: ["node-1"],
    config: { context_tokens: 100, kvBits: 8, samplingDefaults: { temperature: 0.5 } },
  }],
  ["GET", "/instance/placement?model_id=$MODEL&min_nodes=1"],
  ["GET", "/instance/previews?model_id=$HUGE&node_ids=node-1"],
  ["GET", "/meta_instances"],
  ["GET", "/meta_instances/none"],
  ["POST", "/meta_instance/none/retry"],
  ["DELETE", "/meta_instance/none"],
  ["POST", "/meta_instance", {
    model_id: "$HUGE",
    sharding: "Pipeline",
    min_nodes: 2,
    node_ids: ["node-1"],
    exact: true,
    excluded_node_ids: ["node-2"],
    node_layers: { "node-1": 3 },
    memory_limits: { "node-1": 1_000 },
    prefer: "latency",
    pin: "strict",
    max_retries: 1,
    config: { contextTokens: 100 },
  }],
  ["POST", "/v1/chat/completions", {
    model: "$MODEL",
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
  ["POST", "/v1/chat/completions", {
    model: "$MODEL",
    messages: [{ role: "user", content: "hi" }],
    max_tokens: 5,
    n: 2,
    logprobs: true,
    top_logprobs: 2,
    logit_bias: { "7": -100 },
    presence_penalty: 0.5,
    repetition_penalty: 1.1,
    user: "ada",
  }],
];

/** Requests that start and end processes: rare, or the run measures nothing else. */
const CHANGES: readonly Seed[] = [
  ["POST", "/place_instance", { model_id: "$MODEL" }],
  ["DELETE", "/instance/$INSTANCE"],
  ["DELETE", "/models/custom/$MODEL"],
];
const CHANGE_SHARE = 0.001;

/** Share of requests whose client leaves in the middle of sending or of hearing. */
const CUT_SHARE = 0.02;

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
  /** What was wrong: an undocumented status, a defect, no answer. */
  readonly findings: readonly Finding[];
  readonly statuses: ReadonlyMap<number, number>;
}

/** A node with one instance of a fake engine, to be asked what it should refuse. */
export class FuzzTarget implements AsyncDisposable {
  readonly node: MeasuredNode;
  readonly #dir: TempDir;
  readonly #client: ApiClient;
  readonly #names: Record<string, string> = {};
  #restored = Promise.resolve();

  private constructor(node: MeasuredNode, dir: TempDir) {
    [this.node, this.#dir] = [node, dir];
    this.#client = new ApiClient({ url: node.url, apiKey: undefined });
  }

  static async start(): Promise<FuzzTarget> {
    const dir = await TempDir.make();
    const scriptFile = `${dir.path}/fake.json`;
    await Deno.writeTextFile(scriptFile, "{}");
    await tinyCheckpoint(`${dir.path}/tiny`);
    await tinyCheckpoint(`${dir.path}/huge`, HUGE);
    const env = { EXO_ENGINE: "fake", EXO_ENGINE_SCRIPT: scriptFile };
    const target = new FuzzTarget(await MeasuredNode.start(`${dir.path}/data`, env), dir);
    await target.restore();
    return target;
  }

  /** The text with the names that this node knows. */
  named(text: string): string {
    return text.replace(/\$([A-Z]+)/g, (found, name) => this.#names[name] ?? found);
  }

  /** Makes what a request may have taken away, and takes away what it made. */
  restore(): Promise<void> {
    return this.#restored = this.#restored.catch(() => {}).then(() => this.#restoreSoon());
  }

  /** What was found may be taken away again by requests that go on meanwhile. */
  async #restoreSoon(): Promise<void> {
    for (let attempt = 1;; attempt++) {
      try {
        return await this.#restoreNow();
      } catch (cause) {
        const isGone = cause instanceof AppError && ERRORS[cause.code].http === 404;
        if (!isGone || attempt === RESTORE_ATTEMPTS_MAX) throw cause;
      }
    }
  }

  async #restoreNow(): Promise<void> {
    const client = this.#client;
    const path = `${this.#dir.path}/tiny`;
    const [{ id: model }, { id: huge }] = [
      await client.addModel(path),
      await client.addModel(`${this.#dir.path}/huge`),
    ];
    const [kept, ...others] = Object.keys((await client.state()).instances);
    for (const instanceId of others) await client.deleteInstance(instanceId);
    const { instanceId } = kept ? { instanceId: kept } : await client.placeInstance({ model });
    for await (const _ of client.awaitInstance({ instanceId }, { timeoutSeconds: 60 }));
    Object.assign(this.#names, { MODEL: model, INSTANCE: instanceId, PATH: path, HUGE: huge });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.node[Symbol.asyncDispose]();
    await this.#dir[Symbol.asyncDispose]();
  }
}

/** A model that no machine holds: its cache alone takes more than there is. */
const HUGE = { head_dim: 1_000_000_000 };

/** Times that a restoration begins again before it gives up. */
const RESTORE_ATTEMPTS_MAX = 10;

/** Requests under way at once. */
const AT_ONCE = 4;

/** Sends mutated requests to a node, each on a connection of its own. */
export async function fuzzHttp(
  target: FuzzTarget,
  seed: number,
  requests: number,
): Promise<FuzzReport> {
  const random = new Random(seed);
  const findings: Finding[] = [];
  const statuses = new Map<number, number>();
  let n = 0;
  const worker = async () => {
    while (n < requests) {
      const mutated = mutateRequest(random);
      const body = mutated.body === undefined ? undefined : target.named(mutated.body);
      const request = { ...mutated, path: target.named(mutated.path), body };
      const name = `seed ${seed}, request ${n++}: ${request.method} ${request.path} ${body ?? ""}`;
      const found = await tell(target, request, statuses);
      if (found !== undefined) findings.push({ request: name.slice(0, 500), found });
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  return { findings, statuses };
}

/** Sends one request; what is wrong with the answer, if anything. */
async function tell(
  target: FuzzTarget,
  request: RawRequest,
  statuses: Map<number, number>,
): Promise<string | undefined> {
  try {
    const { status, text } = await rawRequest(target.node.url, request);
    const isDeletion = request.method === "DELETE" || request.path.startsWith("/place");
    if (isDeletion && (status === 200 || status === 0)) await target.restore();
    if (status === 0 && isCut(request)) return undefined;
    statuses.set(status, (statuses.get(status) ?? 0) + 1);
    if (!STATUSES.has(status)) return `status ${status}: ${text.slice(0, 1_000)}`;
    return text.includes('"code":"internal"') ? `a defect: ${text.slice(0, 1_000)}` : undefined;
  } catch (thrown) {
    return String(thrown);
  }
}

function isCut({ patienceBytes, sentBytes }: RawRequest): boolean {
  return patienceBytes !== undefined || sentBytes !== undefined;
}

/** Connections that send part of a request and then nothing. */
const SLOW_CONNECTIONS = 16;

/**
 * Sends the beginning of a request and waits, on many connections at once; what is wrong with the
 * answers. Takes as long as the limit of a body's time.
 */
export async function fuzzSlowly(target: FuzzTarget): Promise<Finding[]> {
  const findings: Finding[] = [];
  const body = JSON.stringify({ path: "x".repeat(1_000) });
  const connection = async (n: number) => {
    // From the middle of the head to the middle of the body.
    const request = { method: "POST", path: "/models/add", body, sentBytes: 10 + n * 50 };
    const { status } = await rawRequest(target.node.url, request);
    if (status === 408) return;
    findings.push({ request: `a request cut at ${request.sentBytes}`, found: `status ${status}` });
  };
  await Promise.all(Array.from({ length: SLOW_CONNECTIONS }, (_, n) => connection(n)));
  return findings;
}

/** Most that a node may grow, in what is alive and in what is resident. */
const GROWTH_SHARE_MAX = 0.05;

/**
 * What grew, from samples after equal numbers of requests, the first of them after enough that caches
 * and compilers have what they keep: what is alive from the first to the last, and what is resident
 * from the largest of the first half to the largest of the second, since a heap of which most is
 * free breathes.
 */
export function growthOf(samples: readonly NodeSample[]): Finding[] {
  const [first, last] = [samples[0], samples.at(-1)];
  if (!first || !last) return [];
  const largest = (half: readonly NodeSample[]) =>
    Math.max(...half.map(({ residentBytes }) => residentBytes));
  const middle = Math.ceil(samples.length / 2);
  const pairs = [
    ["alive", first.liveBytes, last.liveBytes],
    ["resident", largest(samples.slice(0, middle)), largest(samples.slice(middle - 1))],
  ] as const;
  return pairs.filter(([, began, ended]) => ended > began * (1 + GROWTH_SHARE_MAX))
    .map(([what, began, ended]) => ({ request: what, found: `${began} bytes became ${ended}` }));
}

function mutateRequest(random: Random): RawRequest {
  const isChange = random.next() < CHANGE_SHARE;
  const [method, path, body] = random.pick(isChange ? CHANGES : SEEDS);
  if (isChange) return { method, path, body: body === undefined ? body : JSON.stringify(body) };
  const other = random.next() < 0.05 ? random.pick(["GET", "POST", "PUT", "DELETE"]) : method;
  const hasBody = body !== undefined && other !== "GET";
  // Who leaves while an instance is being deleted cannot know when there is one to make again.
  const mayLeave = other === "GET" || path.startsWith("/v1");
  return {
    method: other,
    path: random.next() < 0.2 ? mutateText(random, path, "/?&=%.~[]") : path,
    ...(hasBody ? { body: mutateBody(random, body) } : {}),
    ...(mayLeave && random.next() < CUT_SHARE ? { patienceBytes: random.below(400) } : {}),
  };
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
