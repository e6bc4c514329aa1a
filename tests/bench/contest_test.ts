import { deepEqual, equal, match, ok } from "node:assert/strict";
import { contest, type ContestOptions } from "../../bench/contest.ts";
import type { SuiteSettings } from "../../bench/suite_report.ts";
import { AppError } from "../../core/errors.ts";
import { fakeServer } from "./fake_server.ts";
import { ModelEndpoint } from "./model_endpoint.ts";

const SETTINGS: SuiteSettings = {
  ...{ lengths: [{ pp: 30, tg: 4 }], concurrency: [1, 2], repeat: 1, warmup: 1 },
  ...{ rounds: 2, threads: 2 },
};

const OPTIONS: ContestOptions = {
  settings: SETTINGS,
  llamaPrograms: null,
  modelPath: "m.gguf",
  run: () => Promise.reject(new Error("nothing is run")),
  logPath: "unused",
  busy: () => Promise.resolve(3),
  signal: new AbortController().signal,
  onProgress: () => {},
};

/** What llama.cpp's own programs say. */
const OWN = {
  version: "b1",
  program: (name: string) => name,
};

Deno.test("Servers take turns, alone, on the same prompts", async () => {
  await using endpoint = new ModelEndpoint();
  const log: string[] = [];
  const servers = ["exo", "b", "c"].map((name) => fakeServer(name, endpoint, log));
  const found = await contest(servers, OPTIONS);
  const round = ["exo", "b", "c"].flatMap((name) => [`${name} starts`, `${name} stops`]);
  deepEqual(log, [...round, ...round]);
  equal(found.failed, 0);
  // Only the first turn sizes its prompt: two questions more than the others.
  const turns = endpoint.prompts.join("\n").split("Hi\n").slice(1)
    .map((turn) => turn.trimEnd().split("\n"));
  deepEqual(turns.map((turn) => turn.length), [6, 4, 4, 4, 4, 4]);
  deepEqual(turns[2], turns[1]);
  deepEqual(
    found.servers.map(({ rounds }) => rounds.map(({ runs }) => runs.map((run) => run.repeat))),
    Array.from({ length: 3 }, () => [[0, 0, 0], [1, 1, 1]]),
  );
  const [exo] = found.servers;
  deepEqual(exo?.medians.cells.map(({ runs, failed }) => [runs, failed]), [[2, 0], [4, 0]]);
  deepEqual([exo?.medians.loadMs, exo?.medians.loadPartsMs], [7, { loadModel: 5 }]);
  ok(found.ratios.some(({ peer, metric }) => peer === "b" && metric === "decode, tg 4"));
});

Deno.test("A server that cannot start or answer fails its turns, and no others", async () => {
  await using endpoint = new ModelEndpoint();
  await using refusing = new ModelEndpoint();
  refusing.refusal = 500;
  const log: string[] = [];
  const broken = {
    ...fakeServer("broken", endpoint, log),
    start: () => Promise.reject(new AppError("setup_failed", "Cannot start")),
  };
  const servers = [
    fakeServer("exo", endpoint, log),
    broken,
    fakeServer("refusing", refusing, log),
  ];
  const found = await contest(servers, OPTIONS);
  deepEqual(log.slice(0, 4), ["exo starts", "exo stops", "refusing starts", "refusing stops"]);
  equal(found.failed, 4);
  const errors = found.servers.map(({ rounds }) => rounds[0]?.error?.code ?? null);
  deepEqual(errors, [null, "setup_failed", "node_unreachable"]);
  ok(!found.ratios.some(({ peer }) => peer === "broken"));
});

Deno.test("Llama.cpp's own programs have their turn after the servers", async () => {
  await using endpoint = new ModelEndpoint();
  const log: string[] = [];
  let speed = 100;
  const run: ContestOptions["run"] = (program) => {
    log.push(program);
    speed += 10;
    const rows = [
      { n_prompt: 30, n_gen: 0, avg_ts: speed },
      { n_prompt: 0, n_gen: 4, avg_ts: speed },
    ];
    const batched = { pp: 30, tg: 4, pl: 2, speed_pp: speed, speed_tg: speed };
    return Promise.resolve(JSON.stringify(program === "llama-bench" ? rows : batched));
  };
  const servers = [fakeServer("exo", endpoint, log)];
  const { llamaBench, ratios } = await contest(servers, { ...OPTIONS, llamaPrograms: OWN, run });
  const round = ["exo starts", "exo stops", "llama-bench", "llama-batched-bench"];
  deepEqual(log, [...round, ...round]);
  deepEqual(llamaBench?.medians.map((one) => [one.kind, one.concurrency, one.tokensPerSecond]), [
    ["prompt", 1, 120],
    ["decode", 1, 120],
    ["prompt", 2, 130],
    ["decode", 2, 130],
  ]);
  deepEqual(ratios.map(({ metric }) => metric), [
    "prompt, pp 30",
    "decode, tg 4",
    "output of all, tg 4, 2 at once",
  ]);
});

Deno.test("What llama-bench cannot do is in the report", async () => {
  await using endpoint = new ModelEndpoint();
  const found = await contest([fakeServer("exo", endpoint, [])], {
    ...OPTIONS,
    llamaPrograms: OWN,
    run: () => Promise.resolve("Illegal instruction"),
  });
  equal(found.failed, 2);
  match(found.llamaBench?.rounds[0]?.error?.message ?? "", /llama-bench.*Illegal instruction/);
  deepEqual(found.llamaBench?.medians, []);
});

Deno.test("An interrupted contest stops its server and ends", async () => {
  await using endpoint = new ModelEndpoint();
  const log: string[] = [];
  const controller = new AbortController();
  const onProgress = (line: string) => line.includes("Warming") && controller.abort();
  const { signal } = controller;
  const servers = [fakeServer("exo", endpoint, log), fakeServer("b", endpoint, log)];
  const ended = await contest(servers, { ...OPTIONS, signal, onProgress }).catch((error) => error);
  equal(ended.name, "AbortError");
  deepEqual(log, ["exo starts", "exo stops"]);
});
