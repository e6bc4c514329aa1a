import { deepEqual, equal, ok } from "node:assert/strict";
import { BenchJson } from "../../cli/bench_json.ts";
import { ErrorJson } from "../../cli/error_json.ts";
import { type Asked, FINISH, token } from "../support/fake_gateway.ts";
import { FakeNode } from "./fake_io.ts";

const BENCH = [
  "bench",
  "tiny",
  "--pp",
  "5",
  "--tg",
  "2",
  "--repeat",
  "2",
  "--warmup",
  "0",
  "--json",
];

Deno.test("bench --json fits its schema when runs fail, beside the error on stderr", async () => {
  await using node = await FakeNode.start();
  node.gateway.placeModel();
  const usual = node.gateway.answer;
  let isLast = false;
  // The answer that sizes the prompt, and the first that counts, are well.
  node.gateway.answer = (asked: Asked) => {
    isLast = asked.payload.maxTokens === 2 && node.gateway.asked.length > 2;
    const error = { code: "runner_failed", message: "Runner died", hint: "try again" } as const;
    return isLast ? [token("Hi"), { type: "Error", error }] : usual(asked);
  };
  const { code, stdout, stderr } = await node.run(BENCH);
  equal(code, 6, stderr);
  ok(isLast);
  const report = BenchJson.parse(JSON.parse(stdout));
  deepEqual([report.outcome, report.failed > 0], ["complete", true]);
  ErrorJson.parse(JSON.parse(stderr));
});

Deno.test("bench --json fits its schema when it is interrupted", async () => {
  await using node = await FakeNode.start();
  node.gateway.placeModel();
  const interrupt = new AbortController();
  const usual = node.gateway.answer;
  node.gateway.answer = async function* (asked: Asked) {
    if (node.gateway.asked.length < 3) return yield* usual(asked);
    interrupt.abort();
    yield FINISH;
  };
  const { code, stdout, stderr } = await node.run(BENCH, { signal: interrupt.signal });
  deepEqual([code, stderr], [130, ""]);
  const report = BenchJson.parse(JSON.parse(stdout));
  deepEqual([report.outcome, report.error?.code], ["partial", "cancelled"]);
});
