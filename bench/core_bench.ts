/**
 * `deno task bench:core`: what decisions of the control plane cost.
 *
 *     deno task bench:core [--only placement] [--write]
 *
 * One JSON object on stdout (`core_report.ts`), a line for each figure on stderr. `--write` also
 * keeps the object in `bench/results/` and writes `docs/performance.md` from it. A further case is
 * a function in `CASES`, with its measurement in `bench/core/`.
 */
import { parseArgs } from "node:util";
import { APPLY_CLUSTER, EVENTS_PER_SECOND_MIN, eventsPerSecond } from "./core/apply.ts";
import { PLACEMENT_BARS, placementMs, SHAPES } from "./core/placement.ts";
import { META_INSTANCES, NODE_COUNTS, reconcileTick, tickMs } from "./core/reconcile.ts";
import { INSTALL_MS_MAX, SNAPSHOT_CLUSTER, snapshotInstall } from "./core/snapshot.ts";
import { AppError } from "../core/errors.ts";
import { coreLines, type CoreReport, type CoreRow } from "./core_report.ts";
import { readFlags } from "./flags.ts";
import { thisMachine } from "./machine.ts";
import { CORE_PATH, keepReport, PAGE_PATH } from "./performance_page.ts";
import { note, runBenchmark, sources } from "./setting.ts";

/** Longest time of a reconciler's tick (issue 7). */
const TICK_MS_MAX = 10;

/** What is measured, by the name that `--only` takes. */
const CASES: Readonly<Record<string, () => readonly CoreRow[]>> = {
  apply: () => [{
    what: `events applied, ${APPLY_CLUSTER.nodes} nodes, ${APPLY_CLUSTER.tasks} tasks`,
    ...{ value: eventsPerSecond(), unit: "events/s", isCost: false, bar: EVENTS_PER_SECOND_MIN },
  }],
  snapshot: () => [{
    what: `snapshot installed, ${SNAPSHOT_CLUSTER.nodes} nodes`,
    ...{ value: snapshotInstall().installMs, unit: "ms", isCost: true, bar: INSTALL_MS_MAX },
  }],
  reconcile: () =>
    (["satisfied", "waiting"] as const).flatMap((scene) =>
      NODE_COUNTS.map((nodeCount) => ({
        what: `reconcile tick, ${nodeCount} nodes, ${META_INSTANCES} wishes ${scene}`,
        value: tickMs(reconcileTick(scene, nodeCount)).settled,
        ...{ unit: "ms", isCost: true, bar: TICK_MS_MAX },
      }))
    ),
  placement: () =>
    PLACEMENT_BARS.flatMap(([nodeCount, bar]) =>
      SHAPES.map((shape) => ({
        what: `placement, ${shape} of ${nodeCount} nodes`,
        value: placementMs(shape, nodeCount),
        ...{ unit: "ms", isCost: true, bar },
      }))
    ),
};

function optionsOf(args: readonly string[]) {
  const parse = () =>
    parseArgs({
      args: [...args],
      options: { only: { type: "string" }, write: { type: "boolean", default: false } },
    }).values;
  const { only, write } = readFlags(parse, "as in --only placement --write");
  const names = Object.keys(CASES).filter((name) => only === undefined || name === only);
  if (names.length === 0) {
    const hint = `one of ${Object.keys(CASES).join(", ")}`;
    throw new AppError("usage", `Cannot measure "${only}": it is not known`, { hint });
  }
  return { names, write, peersDir: undefined };
}

await runBenchmark(
  () => optionsOf(Deno.args),
  async ({ names, write }, setting) => {
    const startedAt = new Date().toISOString();
    const rows = names.flatMap((name) => {
      const found = CASES[name]?.() ?? [];
      for (const line of coreLines({ rows: found })) note(line);
      return found;
    });
    const report: CoreReport = {
      ...{ schemaVersion: 1, tool: await sources(setting), command: "deno task bench:core" },
      ...{ startedAt, machine: await thisMachine(), rows },
    };
    Deno.stdout.writeSync(new TextEncoder().encode(`${JSON.stringify(report, null, 2)}\n`));
    if (write) {
      await keepReport(CORE_PATH, report);
      note(`Wrote ${CORE_PATH} and ${PAGE_PATH}`);
    }
    return 0;
  },
);
