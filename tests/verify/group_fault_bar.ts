import { measureGroupCell } from "./group_fault_cell.ts";
import { GROUP_CELLS, groupCellName } from "./group_faults.ts";
import type { Say, Tally } from "./tally.ts";

/** Runs the cells from one number to another: each has nodes of its own. */
export async function verifyGroupFaults(
  { from, to }: { readonly from: number; readonly to: number },
  say: Say,
): Promise<Tally> {
  let [passed, failed] = [0, 0];
  for (const [n, cell] of GROUP_CELLS.entries()) {
    if (n < from || n > to) continue;
    const name = `${n} ${groupCellName(cell)}`;
    try {
      const { heardMs, descriptors, liveBytes } = await measureGroupCell(cell);
      passed++;
      say(
        `${name}: ok (heard after ${Math.round(heardMs)} ms; ${descriptors.join(" to ")} ` +
          `descriptors, ${liveBytes.join(" to ")} bytes alive)`,
      );
    } catch (cause) {
      failed++;
      say(`${name}: FAILED: ${String(cause)}`);
      say(`  replay: deno task verify group-faults --from ${n} --to ${n}`);
    }
  }
  say(`${passed + failed} cells of the ${GROUP_CELLS.length} in the matrix`);
  return { passed, failed };
}
