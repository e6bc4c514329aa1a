/**
 * The long bars: `deno task verify faults [--from N] [--to N]`. Goes through the cells in order, so
 * that a run that was interrupted goes on with `--from`; ends with `N passed, N failed`.
 */
import { parseArgs } from "node:util";
import { CELLS, runCell } from "./faults.ts";

const say = (line: string) => Deno.stdout.writeSync(new TextEncoder().encode(`${line}\n`));

const { positionals, values } = parseArgs({
  args: Deno.args,
  allowPositionals: true,
  options: {
    from: { type: "string", default: "0" },
    to: { type: "string", default: String(CELLS.length - 1) },
  },
});
if (positionals.join() !== "faults") {
  say("Usage: deno task verify faults [--from N] [--to N]");
  Deno.exit(2);
}
let [passed, failed] = [0, 0];
for (let n = Number(values.from); n <= Number(values.to); n++) {
  const cell = CELLS[n];
  if (!cell) break;
  const startedAt = performance.now();
  try {
    await runCell(cell);
    passed++;
    const seconds = ((performance.now() - startedAt) / 1000).toFixed(1);
    say(`${n} ${cell.fault} in ${cell.stage}: ok (${seconds} s)`);
  } catch (cause) {
    failed++;
    say(`${n} ${cell.fault} in ${cell.stage}: FAILED: ${String(cause)}`);
    say(`  replay: deno task verify faults --from ${n} --to ${n}`);
  }
}
say(`${passed} passed, ${failed} failed`);
Deno.exit(failed === 0 ? 0 : 1);
