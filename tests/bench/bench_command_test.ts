import { deepEqual, equal, match, ok } from "node:assert/strict";
import type { BenchReport } from "../../bench/report.ts";
import { bench } from "../../cli/bench.ts";
import { runProgram } from "../../cli/program.ts";
import type { Chunk } from "../../core/chunk.ts";
import { isReady } from "../../core/master.ts";
import type { State } from "../../core/state.ts";
import { FakeNode, ioOf, type Ran, type World } from "../cli/fake_io.ts";
import { type Asked, cardOf, FINISH, TINY, token } from "../support/fake_gateway.ts";
import { timeAnswer } from "./openai_client.ts";

const ROWS = [{ name: "bench", summary: "", load: () => Promise.resolve(bench) }];

const QUICK = ["--warmup", "0", "--repeat", "1", "--pp", "20", "--tg", "3"];

async function run(argv: readonly string[], world: World = {}): Promise<Ran> {
  const { io, stdout, stderr } = ioOf(world);
  const code = await runProgram(ROWS, ["bench", ...argv], io);
  return { code, stdout: stdout(), stderr: stderr() };
}

const at = (node: FakeNode): World => ({ env: { EXO_URL: node.url } });

/** An engine whose template takes 4 tokens, and each word one. */
function* answerOf({ payload }: Asked): Generator<Chunk> {
  const [message] = payload.messages;
  const promptTokens = 4 + String(message?.content).split(" ").length;
  const completionTokens = payload.maxTokens ?? 9;
  for (let i = 0; i < completionTokens; i++) yield token("x");
  const usage = { promptTokens, completionTokens, cachedTokens: 0 };
  yield { ...FINISH, finishReason: "length", usage } as Chunk;
}

/** A node with a ready model that counts words. */
async function readyNode(): Promise<FakeNode> {
  const node = await FakeNode.start();
  node.gateway.placeModel();
  node.gateway.answer = answerOf;
  return node;
}

async function jsonOf(
  argv: readonly string[],
  world: World,
): Promise<[number, BenchReport, string]> {
  const { code, stdout, stderr } = await run([...argv, "--json"], world);
  equal(stdout.trimEnd().split("\n").length, 1);
  return [code, JSON.parse(stdout), stderr];
}

Deno.test("bench shows a table on stdout and its progress on stderr", async () => {
  await using node = await readyNode();
  const { code, stdout, stderr } = await run(["tiny", ...QUICK], at(node));
  equal(code, 0, stderr);
  const [head = "", row = "", ...rest] = stdout.trimEnd().split("\n");
  match(
    head,
    /^PP +TG +AT ONCE +PROMPT TOK\/S +DECODE TOK\/S +TTFT MS +TOTAL MS +ALL TOK\/S +RUNS$/,
  );
  match(row, /^20 +3 +1 .* 1\/1$/);
  deepEqual(rest, []);
  match(stderr, /^Sizing a prompt of 20 tokens\nMeasuring pp 20, tg 3, 1 at once 0\/1$/m);
});

Deno.test("bench --stream adds percentiles", async () => {
  await using node = await readyNode();
  const { code, stdout } = await run(["tiny", ...QUICK, "--stream"], at(node));
  equal(code, 0);
  match(stdout, /\n\nPP +TG +AT ONCE +TTFT P50 +P90 +P99 +INTER-TOKEN P50 +P90 +P99\n20 +3 +1 /);
});

Deno.test("bench --json prints one object with machine, settings, runs and cells", async () => {
  await using node = await readyNode();
  const flags = ["--pp", "20,30", "--tg", "3", "--concurrency", "1,2", "--repeat", "2"];
  const [code, report, stderr] = await jsonOf(["tiny", ...flags], at(node));
  deepEqual([code, stderr], [0, ""]);
  deepEqual([report.schemaVersion, report.outcome, report.model], [1, "complete", TINY]);
  deepEqual([report.url, report.machine.os, report.failed], [node.url, Deno.build.os, 0]);
  deepEqual(report.nodes?.map(({ name, version }) => [name, version]), [["test machine", "0.1.0"]]);
  deepEqual(report.sizes, [
    { askedTokens: 20, reachedTokens: 20 },
    { askedTokens: 30, reachedTokens: 30 },
  ]);
  const cells = report.cells.map(({ pp, tg, concurrency, runs }) => [pp, tg, concurrency, runs]);
  deepEqual(cells, [[20, 3, 1, 2], [20, 3, 2, 4], [30, 3, 1, 2], [30, 3, 2, 4]]);
  equal(report.runs.length, 12);
  ok(report.runs.every((run) => run.completionTokens === 3 && run.promptTokens === run.pp));
  for (const { ttftMs, endToEndMs } of report.runs) {
    ok(ttftMs !== null && endToEndMs !== null && ttftMs > 0 && ttftMs <= endToEndMs);
  }
});

Deno.test("bench asks at temperature 0 for answers of just the length", async () => {
  await using node = await readyNode();
  await run(["tiny", ...QUICK], at(node));
  const asked = node.gateway.asked.map(({ payload }) => [
    payload.maxTokens,
    payload.ignoreEos,
    payload.usePrefixCache,
    payload.sampling,
  ]);
  deepEqual(asked.at(0), [1, true, false, { temperature: 0 }]);
  deepEqual(asked.at(-1), [3, true, false, { temperature: 0 }]);
  await run(["tiny", ...QUICK, "--use-prefix-cache"], at(node));
  equal(node.gateway.asked.at(-1)?.payload.usePrefixCache, true);
});

Deno.test("bench pairs lists of equal length, unless it is told to combine them", async () => {
  await using node = await readyNode();
  const flags = ["tiny", "--pp", "20,30", "--tg", "2,3", "--repeat", "1"];
  const lengthsOf = (report: BenchReport) => report.cells.map(({ pp, tg }) => [pp, tg]);
  const [, paired] = await jsonOf(flags, at(node));
  deepEqual(lengthsOf(paired), [[20, 2], [30, 3]]);
  const [, all] = await jsonOf([...flags, "--all-combinations"], at(node));
  deepEqual(lengthsOf(all), [[20, 2], [20, 3], [30, 2], [30, 3]]);
  const twice = ["tiny", "--pp", "20, 30 20", "--tg", "2,2,2", "--repeat", "1"];
  const [, once] = await jsonOf([...twice, "--concurrency", "2,2"], at(node));
  deepEqual(lengthsOf(once), [[20, 2], [30, 2]]);
});

Deno.test("bench says when no prompt has the length that was asked for", async () => {
  await using node = await readyNode();
  const flags = ["--pp", "2", "--tg", "3", "--repeat", "1"];
  const { code, stdout, stderr } = await run(["tiny", ...flags], at(node));
  equal(code, 0);
  match(stdout, /\n5 +3 +1 /);
  match(stderr, /\nNo prompt has 2 tokens: 5 is the nearest\n/);
});

Deno.test("bench places a known model that has no instance, and deletes what it placed", async () => {
  await using node = await FakeNode.start();
  const { gateway } = node;
  gateway.addCard(cardOf());
  gateway.answer = answerOf;
  gateway.readyWhatIsPlaced();
  const { code, stderr } = await run(["tiny", ...QUICK], at(node));
  equal(code, 0);
  match(stderr, /^Creating an instance of local\/tiny-0123abcd for this bench\n/);
  equal(gateway.state().instances.size, 0);
});

Deno.test("bench leaves an instance that was there before", async () => {
  await using node = await readyNode();
  equal((await run(["tiny", ...QUICK], at(node))).code, 0);
  equal(node.gateway.state().instances.size, 1);
});

Deno.test("bench takes the path of a model", async () => {
  await using node = await readyNode();
  node.gateway.files.set("/models/tiny.gguf", cardOf());
  equal((await run(["/models/tiny.gguf", ...QUICK], at(node))).code, 0);
  const { code, stderr } = await run(["/models/none.gguf", ...QUICK], at(node));
  equal(code, 4);
  match(stderr, /none.gguf/);
});

const isServing = (state: State) =>
  [...state.instances.values()].every((instance) => isReady(state, instance));

Deno.test("bench waits for an instance whose runner failed", async () => {
  await using node = await readyNode();
  const { gateway } = node;
  const error = { code: "runner_failed", message: "Runner died" } as const;
  const [instanceId] = [...gateway.state().instances.keys()];
  ok(instanceId);
  gateway.answer = async function* (asked) {
    if (gateway.asked.length === 4) {
      gateway.setRunners(instanceId, { type: "RunnerLoading", layersLoaded: 1, totalLayers: 2 });
      yield { type: "Error", error };
      return;
    }
    // A question that came before the instance was ready again would fail the test.
    ok(isServing(gateway.state()));
    yield* answerOf(asked);
  };
  gateway.onWatched = () => gateway.setRunners(instanceId, { type: "RunnerReady" });
  const flags = ["--pp", "20", "--tg", "3", "--warmup", "0", "--repeat", "3"];
  const { code, stdout } = await run(["tiny", ...flags], at(node));
  equal(code, 6);
  match(stdout, / 2\/3\n$/);
});

Deno.test("bench gives up an answer after --timeout", async () => {
  await using node = await readyNode();
  node.gateway.answer = async function* ({ signal }: Asked) {
    const { promise, resolve } = Promise.withResolvers<void>();
    signal.addEventListener("abort", () => resolve());
    await promise;
    yield FINISH;
  };
  const { code, stderr } = await run(["tiny", ...QUICK, "--timeout", "1"], at(node));
  equal(code, 6);
  match(stderr, /within 1 s/);
});

Deno.test("bench exits with 6 when runs failed, and reports the others", async () => {
  await using node = await readyNode();
  const error = { code: "runner_failed", message: "Runner died" } as const;
  node.gateway.answer = (asked) =>
    node.gateway.asked.length === 4 ? [{ type: "Error", error }] : answerOf(asked);
  const flags = ["--pp", "20", "--tg", "3", "--warmup", "0", "--repeat", "3"];
  const { code, stdout, stderr } = await run(["tiny", ...flags], at(node));
  equal(code, 6);
  match(stdout, / 2\/3\n$/);
  match(
    stderr,
    /\nFailed 1 times: Runner died\nerror: Cannot report all runs: 1 of 3 failed\nhint: /,
  );
});

Deno.test("bench exits with 8 when the instance is lost, with what was measured", async () => {
  await using node = await readyNode();
  const { gateway } = node;
  gateway.answer = (asked) =>
    gateway.asked.length === 4
      ? [{ type: "Error", error: { code: "instance_removed", message: "It is gone" } }]
      : answerOf(asked);
  const flags = ["--pp", "20", "--tg", "3", "--warmup", "0", "--repeat", "3"];
  const [code, report, stderr] = await jsonOf(["tiny", ...flags], at(node));
  deepEqual([code, report.outcome, report.error?.code], [8, "partial", "instance_removed"]);
  deepEqual([report.runs.length, report.failed], [2, 1]);
  const { error } = JSON.parse(stderr);
  equal(error.code, "instance_removed");
  match(error.hint, /^exo bench local\/tiny-0123abcd starts anew/);
});

Deno.test("bench exits with 7 when the model cannot be placed", async () => {
  await using node = await FakeNode.start();
  const huge = cardOf();
  node.gateway.addCard({ ...huge, storageSize: { inBytes: 1e15 } });
  const { code, stdout, stderr } = await run(["tiny", ...QUICK], at(node));
  deepEqual([code, stdout], [7, ""]);
  match(stderr, /\nerror: Cannot place /);
});

Deno.test("An interrupt ends bench with 130 and what was measured so far", async () => {
  await using node = await readyNode();
  const interrupt = new AbortController();
  const cancelled = Promise.withResolvers<void>();
  node.gateway.answer = async function* (asked: Asked) {
    if (node.gateway.asked.length < 4) return yield* answerOf(asked);
    asked.signal.addEventListener("abort", () => cancelled.resolve());
    interrupt.abort();
    await cancelled.promise;
    yield FINISH;
  };
  const flags = ["--pp", "20", "--tg", "3", "--warmup", "0", "--repeat", "9"];
  const world = { ...at(node), signal: interrupt.signal };
  const [code, report] = await jsonOf(["tiny", ...flags], world);
  deepEqual([code, report.outcome, report.error?.code], [130, "partial", "cancelled"]);
  deepEqual([report.runs.length, report.failed, report.cells.length], [1, 0, 1]);
});

Deno.test("bench of an unknown model exits with 4, and without a node with 3", async () => {
  await using node = await FakeNode.start();
  equal((await run(["nope", ...QUICK], at(node))).code, 4);
  const nobody = { env: { EXO_URL: await closedUrl() } };
  equal((await run(["tiny", ...QUICK], nobody)).code, 3);
});

Deno.test("bench measures any endpoint of the dialect, with its key", async () => {
  const keys = new Set<string | null>();
  await using server = serve((request, path) => {
    if (path !== "/v1/chat/completions") return new Response("nothing here", { status: 404 });
    keys.add(request.headers.get("authorization"));
    return foreignAnswer(request);
  });
  const argv = ["some/model", ...QUICK, "--url", server.url, "--api-key", "secret"];
  const [code, report] = await jsonOf(argv, {});
  deepEqual([code, report.model, report.nodes], [0, "some/model", null]);
  deepEqual([report.runs[0]?.promptTokens, report.runs[0]?.completionTokens], [20, 3]);
  deepEqual([...keys], ["Bearer secret"]);
});

Deno.test("bench does without ignore_eos where that is refused, asks once, and says so", async () => {
  const asked: unknown[] = [];
  await using server = serve(async (request, path) => {
    if (path !== "/v1/chat/completions") return new Response("nothing here", { status: 404 });
    const { ignore_eos } = await request.clone().json();
    asked.push(ignore_eos);
    if (ignore_eos === undefined) return await foreignAnswer(request);
    return Response.json({ detail: "extra fields not permitted" }, { status: 422 });
  });
  const { code, stderr } = await run(["some/model", ...QUICK, "--url", server.url]);
  equal(code, 0, stderr);
  deepEqual(asked.slice(0, 2), [true, undefined]);
  ok(asked.slice(1).every((field) => field === undefined));
  equal(stderr.match(/The endpoint refuses ignore_eos: answers may end before --tg/g)?.length, 1);
});

Deno.test("bench exits with 7 where no usage is reported", async () => {
  await using server = serve((_, path) =>
    path === "/node_id" ? new Response("<html>") : sse('{"choices":[{"finish_reason":"stop"}]}')
  );
  const { code, stderr } = await run(["m", ...QUICK, "--url", server.url]);
  equal(code, 7);
  match(stderr, /error: Cannot count tokens: .*\nhint: bench an endpoint that knows/);
});

Deno.test("bench refuses lists that it cannot read, and a URL that ends in /v1", async () => {
  for (const [flag, text] of [["--pp", "1,x"], ["--tg", "0"], ["--concurrency", "1,,2"]] as const) {
    const { code, stderr } = await run(["tiny", flag, text]);
    equal(code, 2);
    match(stderr, new RegExp(`Cannot use ${flag} "${text}": up to 64 whole numbers from 1 to`));
    match(stderr, /hint: separate them by commas/);
  }
  const { code, stderr } = await run(["tiny", "--url", "http://127.0.0.1:1/v1"]);
  equal(code, 2);
  match(stderr, /hint: --url http:\/\/127\.0\.0\.1:1\n/);
});

Deno.test("The openai client counts what bench counts", async () => {
  await using node = await readyNode();
  const [, report] = await jsonOf(["tiny", ...QUICK], at(node));
  const prompt = String(node.gateway.asked.at(-1)?.payload.messages[0]?.content);
  const timed = await timeAnswer({ url: node.url, model: "tiny", prompt, maxTokens: 3 });
  const { promptTokens, completionTokens } = report.runs[0] ?? {};
  deepEqual([timed.promptTokens, timed.completionTokens], [promptTokens, completionTokens]);
  ok(timed.ttftMs > 0 && timed.decodeTokensPerSecond > 0);
});

function serve(handler: (request: Request, path: string) => Response | Promise<Response>) {
  const options = { hostname: "127.0.0.1", port: 0, onListen: () => {} };
  const server = Deno.serve(options, (request) => handler(request, new URL(request.url).pathname));
  return {
    url: `http://127.0.0.1:${server.addr.port}`,
    [Symbol.asyncDispose]: () => server.shutdown(),
  };
}

/** Where nobody listens any more. */
async function closedUrl(): Promise<string> {
  await using server = serve(() => new Response());
  return server.url;
}

function sse(...messages: readonly string[]): Response {
  return new Response([...messages, "[DONE]"].map((data) => `data: ${data}\n\n`).join(""));
}

/** A server that knows nothing of exo: no comments, no speeds, no details of usage. */
async function foreignAnswer(request: Request): Promise<Response> {
  const { messages, max_completion_tokens: count, stream } = await request.json();
  equal(stream, true);
  const delta = JSON.stringify({ choices: [{ delta: { content: "x" } }] });
  const prompt_tokens = 4 + messages[0].content.split(" ").length;
  const usage = { prompt_tokens, completion_tokens: count, total_tokens: prompt_tokens + count };
  return sse(
    ...Array.from({ length: count }, () => delta),
    JSON.stringify({ choices: [{ delta: {}, finish_reason: "length" }] }),
    JSON.stringify({ choices: [], usage }),
  );
}
