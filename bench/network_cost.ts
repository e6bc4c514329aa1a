/**
 * `deno task bench:network`: what the control plane costs on the network.
 *
 *     deno task bench:network [--nodes 10,100] [--write]
 *
 * One JSON object on stdout (`network_report.ts`), a line for each figure on stderr. `--write` also
 * keeps the object in `bench/results/` and writes `docs/performance.md` from it.
 */
import { parseArgs } from "node:util";
import { measureCluster, NETWORK_SETTINGS } from "./core/network_cost.ts";
import { numberListFlag, readFlags } from "./flags.ts";
import { networkLines, type NetworkReport } from "./network_report.ts";
import { keepReport, NETWORK_PATH, PAGE_PATH } from "./performance_page.ts";
import { note, runBenchmark, sources } from "./setting.ts";

/** Sizes of clusters (issue 8). */
const NODES = "10,100,1000";

function optionsOf(args: readonly string[]) {
  const parse = () =>
    parseArgs({
      args: [...args],
      options: {
        nodes: { type: "string", default: NODES },
        write: { type: "boolean", default: false },
      },
    }).values;
  const { nodes, write } = readFlags(parse, "as in --nodes 10,100 --write");
  return { nodes: numberListFlag("nodes", nodes), write, peersDir: undefined };
}

await runBenchmark(
  () => optionsOf(Deno.args),
  async ({ nodes, write }, setting) => {
    const startedAt = new Date().toISOString();
    const measured = nodes.map((count) => {
      const { traffic, succession } = measureCluster(count);
      for (const line of networkLines({ traffic, succession: [succession] })) note(line);
      return { traffic, succession };
    });
    const report: NetworkReport = {
      ...{ schemaVersion: 1, tool: await sources(setting), command: "deno task bench:network" },
      ...{ startedAt, settings: NETWORK_SETTINGS },
      traffic: measured.flatMap(({ traffic }) => traffic),
      succession: measured.map(({ succession }) => succession),
    };
    Deno.stdout.writeSync(new TextEncoder().encode(`${JSON.stringify(report, null, 2)}\n`));
    if (write) {
      await keepReport(NETWORK_PATH, report);
      note(`Wrote ${NETWORK_PATH} and ${PAGE_PATH}`);
    }
    return 0;
  },
);
