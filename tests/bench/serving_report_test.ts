import { deepEqual, equal } from "node:assert/strict";
import { isReached } from "../../bench/bar.ts";
import { servingRows, type ServingServer } from "../../bench/serving_report.ts";
import { servingFigures, servingServers } from "./serving_fixture.ts";

const named = (servers: readonly ServingServer[], metric: string) =>
  servingRows(servers).find((row) => row.metric === metric);

Deno.test("servingRows() takes medians over rounds, and skips rounds that failed", () => {
  const [exo, peer] = servingServers();
  if (!exo || !peer) throw new Error("no servers");
  const rounds = [100, 300, 900].map((tokens, round) => ({
    ...{ round, busyPercent: null, error: null },
    figures: servingFigures([tokens, 1], [10, 100], 50),
  }));
  const failed = { ...{ round: 3, busyPercent: null, figures: null }, error: null };
  const row = named([{ ...exo, rounds: [...rounds, failed] }, peer], "streams: 1");
  deepEqual(row, {
    ...{ group: "greedy", metric: "streams: 1", unit: "tok/s", ours: 300, theirs: 100, ratio: 3 },
    asked: { of: "ratio", limit: 1.3, better: "higher" },
  });
});

Deno.test("a bar is one of the ratio, or of our own figure", () => {
  const servers = servingServers();
  const reached = (metric: string) => {
    const row = named(servers, metric);
    return row && isReached(row);
  };
  equal(reached("streams: 1"), true);
  equal(reached("streams: 4"), false);
  equal(reached("rise of p99 by the long prompt"), true);
  equal(reached("repeated, against cold"), true);
  equal(reached("first token of it, repeated"), undefined);
});

Deno.test("without a peer there is no ratio, and no bar of one is reached", () => {
  const [exo] = servingServers();
  if (!exo) throw new Error("no server");
  const row = named([exo, { ...exo, name: "llama.cpp", rounds: [] }], "streams: 1");
  equal(row?.ratio, null);
  equal(row && isReached(row), false);
});
