/**
 * `deno task bench:bulk`: how fast bulk bytes go from node to node, beside a libp2p stream, and for
 * how long they keep a node from its other work. Over loopback, so that the machine is the limit.
 *
 *     deno task bench:bulk [--mib 1024]
 *
 * One JSON object on stdout, a line for each figure on stderr.
 */
import { setTimeout as delay } from "node:timers/promises";
import { parseArgs } from "node:util";
import { lagDuring } from "./bulk/lag.ts";
import { streamTransfer } from "./bulk/stream.ts";
import { bulkTransfers, type Transfer } from "./bulk/transfers.ts";
import { coreLines, type CoreReport, type CoreRow } from "./core_report.ts";
import { readFlags } from "./flags.ts";
import { thisMachine } from "./machine.ts";
import { note, runBenchmark, sources } from "./setting.ts";

/** Longest that a node may be away (design D16). */
const LAG_MS_MAX = 50;

/** What libp2p streams under Deno were measured to carry when D16 was decided. */
const STREAM_MB_PER_SECOND = 159;

/** For how long the thread is watched without any transfer: what others on the machine cost it. */
const REST_MS = 2_000;

const MIB = 1024 * 1024;

function optionsOf(args: readonly string[]) {
  const parse = () =>
    parseArgs({ args: [...args], options: { mib: { type: "string", default: "1024" } } }).values;
  return { bytes: Number(readFlags(parse, "as in --mib 256").mib) * MIB, peersDir: undefined };
}

function rowsOf(what: string, { bytesPerSecond, lagMs }: Transfer, mbMin: number): CoreRow[] {
  return [
    { what, value: bytesPerSecond / 1e6, unit: "MB/s", isCost: false, bar: mbMin },
    { what: `${what}, lag`, value: lagMs, unit: "ms", isCost: true, bar: LAG_MS_MAX },
  ];
}

await runBenchmark(
  () => optionsOf(Deno.args),
  async ({ bytes }, setting) => {
    const startedAt = new Date().toISOString();
    const rest = { value: await lagDuring(() => delay(REST_MS)), bar: LAG_MS_MAX };
    const { transfers, measuredBitsPerSecond } = await bulkTransfers(setting.scratch, bytes);
    const rows = Object.entries(transfers)
      .flatMap(([way, transfer]) => rowsOf(`bulk, ${way}`, transfer, STREAM_MB_PER_SECOND));
    const value = measuredBitsPerSecond / 8e6;
    const bar = STREAM_MB_PER_SECOND;
    rows.unshift({ what: "no bytes, lag", unit: "ms", isCost: true, ...rest });
    rows.push({ what: "bulk, as a link's bandwidth", value, unit: "MB/s", isCost: false, bar });
    rows.push(...rowsOf("libp2p stream", await streamTransfer(Math.min(bytes, 256 * MIB)), 0));
    for (const line of coreLines({ rows })) note(line);
    const report: CoreReport = {
      ...{ schemaVersion: 1, tool: await sources(setting), command: "deno task bench:bulk" },
      ...{ startedAt, machine: await thisMachine(), rows },
    };
    Deno.stdout.writeSync(new TextEncoder().encode(`${JSON.stringify(report, null, 2)}\n`));
    return 0;
  },
);
