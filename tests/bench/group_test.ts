import { deepEqual, equal, match, ok, throws } from "node:assert/strict";
import { LLAMA_LAYOUTS, ONE_NODE, PIPELINE_TWO, SMALL_LAYOUTS } from "../../bench/group/layout.ts";
import { serverArgs } from "../../bench/group/llama_player.ts";
import { commandOf, groupOptions } from "../../bench/group/options.ts";
import { groupLines } from "../../bench/group/page.ts";
import type { Program } from "../../bench/group/player.ts";
import {
  type GroupFigures,
  type GroupReport,
  groupRows,
  type GroupTurn,
} from "../../bench/group/report.ts";
import { rateOf } from "../../bench/group/turn.ts";
import { performancePage } from "../../bench/performance_page.ts";
import { suiteReport } from "./suite_fixture.ts";

const SETTINGS = { rounds: 3, threads: 1, tg: 128, streams: 4, delayMs: 1 };

const SMALL = SMALL_LAYOUTS[0]?.name ?? "";

function turn(program: Program, layout: string, round: number, figures: GroupFigures): GroupTurn {
  return { program, layout, round, busyPercent: round === 2 ? 40 : 3, figures, error: null };
}

const figures = (alone: number, together: number, delayed: number | null): GroupFigures => ({
  aloneTokensPerSecond: alone,
  togetherTokensPerSecond: together,
  delayedTokensPerSecond: delayed,
  bytesPerToken: delayed === null ? null : 5_000,
});

/** Exo loses a tenth on two nodes, llama.cpp half; rounds differ, and their medians count. */
const TURNS: readonly GroupTurn[] = [1, 0.5, 2].flatMap((speed, round) => [
  turn("exo", ONE_NODE.name, round, figures(200 * speed, 300 * speed, null)),
  turn(
    "exo",
    PIPELINE_TWO.name,
    round,
    figures(180 * speed, 360 * speed, 1_000 / (1_000 / (180 * speed) + 2.5)),
  ),
  turn("exo", SMALL, round, figures(500 * speed, 900, 1_000 / (1_000 / (500 * speed) + 2.2))),
  turn("llama.cpp", ONE_NODE.name, round, figures(100 * speed, 200 * speed, null)),
  turn("llama.cpp", PIPELINE_TWO.name, round, figures(50 * speed, 50 * speed, 25 * speed)),
]);

const report = (turns: readonly GroupTurn[]): GroupReport => {
  const { tool, machine, model } = suiteReport();
  return {
    ...{ schemaVersion: 1, tool, machine, model, command: "deno task bench:group" },
    ...{ startedAt: "2026-01-02T00:00:00Z", finishedAt: "2026-01-02T00:10:00Z" },
    ...{ llamaCpp: "b1", settings: SETTINGS, turns, rows: groupRows(turns, SETTINGS), failed: 0 },
  };
};

Deno.test("Rows are medians of rounds, and ratios of medians", () => {
  const rows = new Map(groupRows(TURNS, SETTINGS).map(({ what, ...rest }) => [what, rest]));
  const rounded = (what: string) => {
    const { ours, theirs, ratio } = rows.get(what) ?? {};
    return [ours, theirs, ratio].map((value) => value && Math.round(value * 1_000) / 1_000);
  };
  deepEqual(rounded("decode, one node"), [200, 100, 2]);
  deepEqual(rounded("two nodes ÷ one"), [0.9, 0.5, 1.8]);
  deepEqual(rounded("4 streams ÷ one, two nodes"), [2, 1, 2]);
  deepEqual(rounded("added by links of 1 ms, pipeline over two nodes"), [2.5, 20, 0.125]);
  deepEqual(rounded(`added by links of 1 ms, ${SMALL}`), [2.2, null, null]);
  deepEqual(rounded("the same ÷ (2 hops × 1 ms), pipeline over two nodes"), [1.25, 10, 0.125]);
  equal([...rows.keys()].some((what) => /the same ÷.*tensor/.test(what)), false);
  deepEqual(rounded(`the same ÷ (2 hops × 1 ms), ${SMALL}`), [1.1, null, null]);
  equal(rows.has(`decode, ${SMALL}`), false);
  deepEqual(rounded("between nodes, pipeline over two nodes"), [5_000, 5_000, 1]);
});

Deno.test("What was not measured has no figure and no ratio", () => {
  const ours = groupRows(TURNS.filter(({ program }) => program === "exo"), SETTINGS);
  const [first] = ours;
  deepEqual(first, {
    ...{ what: "decode, one node", unit: "tok/s", ours: 200, theirs: null, ratio: null },
    asked: null,
  });
  const tensor = ours.find(({ what }) => what === "decode, tensor over three nodes");
  deepEqual([tensor?.ours, tensor?.theirs], [null, null]);
  equal(groupRows([], SETTINGS).every(({ ratio }) => ratio === null), true);
});

Deno.test("Bars are of three machines, of streams and of spreading; a missed one says so", () => {
  const three = "pipeline over three nodes";
  const slow = [turn("exo", three, 0, figures(200, 300, 1_000 / (1_000 / 200 + 4)))];
  const lines = groupLines(report([...TURNS, ...slow]));
  const asked = lines.filter((line) => /[≥≤]/.test(line)).map((line) =>
    line.replace(/ {2,}/g, " | ")
  );
  deepEqual(asked, [
    "two nodes ÷ one | 0.90 × | 0.50 × | 1.80 × | ≥ 1 ×",
    "4 streams ÷ one, two nodes | 2 × | 1 × | 2 × | ≥ 1.5 ×",
    `the same ÷ (3 hops × 1 ms), ${three} | 1.33 × | - | - | ≤ 1.3 × (missed)`,
    `the same ÷ (3 hops × 1 ms), ${three}, small model | - | - | - | ≤ 1.3 × (missed)`,
  ]);
});

Deno.test("The page shows one model over several machines", () => {
  const page = performancePage(suiteReport(), { group: report(TURNS) }).replaceAll("\n", " ");
  for (
    const fact of [
      "## One model over several machines",
      "npx -y deno task bench:group",
      "| decode, one node | 200 tok/s | 100 tok/s | 2 × | - |",
      "| two nodes ÷ one | 0.90 × | 0.50 × | 1.80 × | ≥ 1 × |",
      "threads of each machine: 1, answers of 128 tokens, 4 streams at once, medians of 3 rounds.",
      "Others used the machine before 5 of 15 turns.",
    ]
  ) ok(page.includes(fact), fact);
  equal(performancePage(suiteReport()).includes("One model over several"), false);
});

Deno.test("Lines for a terminal name what failed", () => {
  const [first] = TURNS as [GroupTurn];
  const error = { code: "internal", message: "it is gone", retryable: false } as const;
  const lines = groupLines(report([{ ...first, figures: null, error }]));
  match(lines.join("\n"), /exo, one node, failed: it is gone/);
});

Deno.test("The speed of streams counts tokens after the first, until the last one's end", () => {
  equal(rateOf([{ firstAt: 1_000, endedAt: 2_000, tokens: 101 }]), 100);
  const streams = [[1_000, 3_000], [1_500, 2_500]].map(([firstAt = 0, endedAt = 0]) => ({
    ...{ firstAt, endedAt, tokens: 101 },
  }));
  equal(rateOf(streams), 100);
});

Deno.test("llama.cpp's first machine keeps the first layers, and has others compute the rest", () => {
  const network = { machines: [0, 1, 2], address: (n: number) => `10.99.0.${n + 1}` };
  const stage = {
    ...{ network, modelPath: "m.gguf", smallModelPath: "s.gguf", threads: 1 },
    ...{ streams: 4, contextTokens: 384 },
  };
  const [one, two] = LLAMA_LAYOUTS.map((layout) => serverArgs(stage, layout, 31).join(" "));
  ok(!one?.includes("--rpc"));
  ok(two?.endsWith("--rpc 10.99.0.2:50052 --n-gpu-layers 16"), two);
  ok(two?.includes("--parallel 4 --ctx-size 1536"), two);
});

Deno.test("Without flags two machines share the cores, and both programs are measured", () => {
  deepEqual(groupOptions([], 5), {
    ...{ model: undefined, programs: ["exo", "llama.cpp"], rounds: 3, threads: 2 },
    ...{ tg: 128, streams: 4, delayMs: 1, peersDir: undefined, write: false },
  });
  equal(groupOptions([], 1).threads, 1);
});

Deno.test("The command of a report asks for the same, without this machine's folders", () => {
  const args = "--model /some/where/m.gguf --only exo --rounds 5 --threads 3 --tg 8 --streams 2 " +
    "--delay-ms 4 --peers-dir /tmp/x --write";
  const options = groupOptions(args.split(" "), 4);
  const again = groupOptions(commandOf(options).split(" ").slice(3), 4);
  deepEqual(again, { ...options, model: "m.gguf", peersDir: undefined });
  throws(() => groupOptions(["--only", "other"], 2), /exo or llama.cpp needed/);
  throws(() => groupOptions(["--streams", "1"], 2), /a whole number from 2/);
});
