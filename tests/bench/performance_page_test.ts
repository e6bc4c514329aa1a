import { deepEqual, equal, match, ok } from "node:assert/strict";
import { keptPage, PAGE_PATH, performancePage, ratioLines } from "../../bench/performance_page.ts";
import { engineReport } from "./engine_fixture.ts";
import { servingReport } from "./serving_fixture.ts";
import { suiteReport } from "./suite_fixture.ts";

const read = (path: string) => Deno.readTextFile(new URL(`../../${path}`, import.meta.url));

Deno.test("The page names machine, versions, model, lengths, commit, command and date", () => {
  const page = performancePage(suiteReport());
  for (
    const fact of [
      "npx -y deno task bench --peer mlx-lm --peer llama.cpp",
      "| Date | 2026-01-02 |",
      "| exo | 0.1.0, commit abc |",
      "| llama.cpp | 1.0 |",
      "| Machine | A CPU, 2 cores, 24.0 GiB, x86_64 |",
      "| System | Debian 12, Deno 2.9.6 |",
      "| Model | m.gguf, 90.0 MiB |",
      "| Tokens | prompt 64, answer 16; temperature 0 |",
      "| Threads | 2 |",
    ]
  ) ok(page.includes(fact), fact);
});

Deno.test("The page has each server's figures, the ratios and the noise", () => {
  const page = performancePage(suiteReport());
  for (
    const fact of [
      "from source, median of 3 | 180 ms | 500 ms |",
      "| exo | 64 | 100 | 10 | 640 | 2140 |",
      "| llama-bench | 64 | 250 | 25 | - | - |",
      "| exo | 800 | 1000 | loadModel 200 | 100.0 MiB | - |",
      "| llama-bench | decode, tg 16 | 10 tok/s | 25 tok/s | 0.40 × | higher |",
      "before 3 of 6 turns",
      "- mlx-lm: decode of one request from 2.50 to 2.50 tok/s.",
    ]
  ) ok(page.includes(fact), fact);
});

Deno.test("The page tells failures, short answers and prompts of another length", () => {
  const report = suiteReport();
  const [exo] = report.servers;
  const [cell] = exo?.medians.cells ?? [];
  if (!exo || !cell) throw new Error("no cell");
  const cells = [{ ...cell, failed: 1, short: 1, promptTokens: 66 }];
  const page = performancePage({
    ...report,
    tool: { ...report.tool, commit: null, hasChanges: true },
    servers: [{ ...exo, medians: { ...exo.medians, cells } }],
  });
  match(page, /\| exo \(1 of 2 failed\) \|/);
  match(page, /exo counts 66 tokens in the prompt of 64/);
  match(page, /exo: 1 of 2 answers ended before 16 tokens/);
  match(page, /commit unknown, with changes that are not committed/);
});

Deno.test("Ratios stand in columns for a terminal", () => {
  const lines = ratioLines(suiteReport());
  equal(lines.length, 15);
  const at = lines.map((line) => line.search(/higher|lower|Better/));
  deepEqual(new Set(at).size, 1);
  deepEqual(ratioLines({ ...suiteReport(), ratios: [] }), [
    "No peers, no ratios: --peer mlx-lm --peer llama.cpp",
  ]);
});

Deno.test("The page shows the engine alone, with what was asked of it", () => {
  const page = performancePage(suiteReport(), { engines: [engineReport()] });
  for (
    const fact of [
      "\n## The engine alone\n",
      "\nnpx -y deno task bench:engine\n",
      "m.gguf: 100.0 MiB of weights, of which 90.0 MiB are read for each token.",
      "| decode | 2 | 200 tok/s | 100 tok/s | 2.00 | ≥ 1.3 |",
      "| LoadModel to Loaded | 2 | 250 ms | - | - | - |",
    ]
  ) ok(page.includes(fact), fact);
  equal(performancePage(suiteReport()).includes("The engine alone"), false);
});

Deno.test("The page shows many requests at once, with what was asked and what the client took", () => {
  const page = performancePage(suiteReport(), { serving: servingReport() });
  for (
    const fact of [
      "\n## Many requests at once\n",
      "\nnpx -y deno task bench:serving\n",
      "| streams: 1 | 200 tok/s | 100 tok/s | 2.00 × | ≥ 1.3 × |",
      "| streams: 4 | 300 tok/s | 200 tok/s | 1.50 × | ≥ 1.8 × (missed) |",
      "| rise of p99 by the long prompt | 90.0 ms | 900 ms | 0.10 × | ≤ 250 ms |",
      "| repeated, against cold | 5.00 % | 50.0 % | 0.10 × | ≤ 10 % |",
      "The measuring client took 7 % of one core at most. Others used the machine before 1 of 2 turns.",
    ]
  ) ok(page.replaceAll("\n", " ").includes(fact.replaceAll("\n", " ")), fact);
  equal(performancePage(suiteReport()).includes("Many requests"), false);
});

Deno.test("docs/performance.md is what the kept results give", async () => {
  equal(await read(PAGE_PATH), await keptPage(), "run: deno task docs");
});
