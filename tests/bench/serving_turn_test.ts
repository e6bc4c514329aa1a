import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { servingRounds } from "../../bench/serving_rounds.ts";
import { gapsWithin, servingTurn } from "../../bench/serving_turn.ts";
import { fakeServer } from "./fake_server.ts";
import { ModelEndpoint } from "./model_endpoint.ts";

const SETTINGS = { pp: 20, tg: 6, longPp: 60, concurrency: [1, 3], rounds: 2, threads: 1 };

Deno.test("gapsWithin() takes gaps that overlap the span, also those that begin before it", () => {
  const streams = [{ piecesMs: [0, 10, 30, 60, 61], endedMs: 100 }];
  deepEqual(gapsWithin(streams, [20, 50]), [20, 30]);
});

Deno.test("gapsWithin() counts a running stream's silence, and an ended one's not", () => {
  const silent = { piecesMs: [0, 10], endedMs: undefined };
  deepEqual(gapsWithin([silent], [5, 200]), [10, 190]);
  deepEqual(gapsWithin([{ ...silent, endedMs: 11 }], [5, 200]), [10]);
});

Deno.test("servingTurn() asks each cell with prompts of its own, and the long ones twice", async () => {
  await using endpoint = new ModelEndpoint();
  endpoint.isPaced = true;
  const server = await fakeServer("exo", endpoint, []).start();
  const { figures, prompts } = await servingTurn(server, SETTINGS);
  deepEqual([prompts.short.reachedTokens, prompts.long.reachedTokens], [20, 60]);
  deepEqual(
    figures.throughput.map(({ sampling, concurrency, completionTokens }) =>
      `${sampling} ${concurrency} ${completionTokens}`
    ),
    ["greedy 1 6", "greedy 3 18", "default 1 6", "default 3 18"],
  );
  ok(figures.throughput.every(({ tokensPerSecond }) => tokensPerSecond > 0));
  deepEqual(figures.repeats.map(({ cachedTokens }) => cachedTokens), [60, 60, 60]);
  const { streams, alone, meanwhile } = figures.intrusion;
  equal(streams, 4);
  ok(alone.count >= 4 * 100 && meanwhile.count >= 4, `${alone.count}, ${meanwhile.count}`);
  const again = await servingTurn(server, SETTINGS, prompts);
  equal(again.prompts, prompts);
});

Deno.test("servingRounds() keeps a turn that failed, and lets the others go on", async () => {
  await using good = new ModelEndpoint();
  await using bad = new ModelEndpoint();
  good.isPaced = true;
  bad.refusal = 500;
  const log: string[] = [];
  const servers = [fakeServer("exo", good, log), fakeServer("llama.cpp", bad, log)];
  const world = {
    ...{ busy: () => Promise.resolve(5), signal: new AbortController().signal },
    onProgress: () => {},
  };
  const found = await servingRounds(servers, SETTINGS, world);
  deepEqual(found.map(({ rounds }) => rounds.map(({ error }) => error?.code)), [
    [undefined, undefined],
    ["internal", "internal"],
  ]);
  deepEqual(log.slice(0, 4), ["exo starts", "exo stops", "llama.cpp starts", "llama.cpp stops"]);
  const aborted = { ...world, signal: AbortSignal.abort(new Error("enough")) };
  await rejects(servingRounds(servers, SETTINGS, aborted), /enough/);
});
