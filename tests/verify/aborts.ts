import assert from "node:assert/strict";
import { ApiClient } from "../../api/client.ts";
import { eventually } from "../support/eventually.ts";
import { descriptorsAsBefore, settledDescriptors } from "../support/descriptors.ts";
import { MeasuredNode } from "../support/measured_node.ts";
import { Random } from "../support/random.ts";
import { type RawRequest, rawRequest } from "../support/raw_http.ts";
import { TempDir } from "../support/temp_dir.ts";

const TINY = new URL("../golden/models/tiny-tied", import.meta.url).pathname;

/** Requests under way at once; the instance takes 8. */
const AT_ONCE = 4;

/** Most that what the node holds may grow. */
const GROWTH_SHARE_MAX = 0.05;

/** About what one token takes on the wire. */
const CHUNK_BYTES = 250;

/** Requests before the first look, after which caches and compilers have what they keep. */
const WARM_REQUESTS = 200;

/** What a run left, beside what it began with. */
export interface AbortReport {
  readonly activeBytes: readonly [began: number, ended: number];
  readonly liveBytes: readonly [began: number, ended: number];
  readonly descriptors: readonly [began: number, ended: number];
}

/**
 * Asks a real engine in random mixes, hangs up at random points, and asserts that in the end MLX's
 * active memory is what it was, that node and runner have no more descriptors open, and that the
 * node holds no more memory. `warmRequests` go ahead of the first look.
 * @throws what was kept.
 */
export async function abortRequests(
  seed: number,
  requests: number,
  warmRequests = WARM_REQUESTS,
): Promise<AbortReport> {
  const random = new Random(seed);
  await using dir = await TempDir.make();
  // What is kept for requests to come would be counted as left behind.
  await using node = await MeasuredNode.start(dir.path, { EXO_PREFIX_CACHE_BYTES: "0" });
  const model = await placeTiny(node);
  const pids = [node.pid, ...await node.runnerPids()];
  await askAll(node, model, { random, requests: warmRequests });
  // The state is asked for over connections that fetch keeps, one before and one after.
  const before = await settledDescriptors(pids);
  const began = { node: await node.sample(), runner: await node.counters() };
  await askAll(node, model, { random, requests });
  const open = await descriptorsAsBefore(pids, { before });
  const ended = { node: await node.sample(), runner: await node.counters() };
  assert.equal(ended.runner.activeBytes, began.runner.activeBytes, "MLX's active memory grew");
  const { liveBytes } = ended.node;
  const liveBytesMax = began.node.liveBytes * (1 + GROWTH_SHARE_MAX);
  assert.ok(liveBytes <= liveBytesMax, `the node holds ${liveBytes} bytes, over ${liveBytesMax}`);
  return {
    activeBytes: [began.runner.activeBytes, ended.runner.activeBytes],
    liveBytes: [began.node.liveBytes, liveBytes],
    descriptors: [before.length, open.length],
  };
}

async function placeTiny(node: MeasuredNode): Promise<string> {
  const client = new ApiClient({ url: node.url, apiKey: undefined });
  const { id } = await client.addModel(TINY);
  const { instanceId } = await client.placeInstance({ model: id });
  for await (const _ of client.awaitInstance({ instanceId }, { timeoutSeconds: 60 }));
  return id;
}

/** Asks so many times, and waits until nothing of it is left on the node. */
async function askAll(
  { url }: MeasuredNode,
  model: string,
  { random, requests }: { readonly random: Random; readonly requests: number },
): Promise<void> {
  let left = requests;
  const worker = async () => {
    while (left-- > 0) await rawRequest(url, requestOf(model, random));
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  const client = new ApiClient({ url, apiKey: undefined });
  const isIdle = async () => Object.keys((await client.state()).tasks).length === 0;
  await eventually("all tasks are over", isIdle);
}

/** One request on a connection of its own: whole, or left after some bytes of its answer. */
function requestOf(model: string, random: Random): RawRequest {
  const content = "hello ".repeat(1 + random.below(8));
  const max_tokens = 1 + random.below(40);
  const messages = [{ role: "user", content }];
  const temperature = random.next() < 0.5 ? 0 : 1;
  const body = JSON.stringify({ model, messages, max_tokens, temperature, stream: true });
  const isWhole = random.next() < 0.3;
  const patience = isWhole ? {} : { patienceBytes: random.below(max_tokens * CHUNK_BYTES) };
  return { method: "POST", path: "/v1/chat/completions", body, ...patience };
}
