import assert from "node:assert/strict";
import { ensureSetup } from "../ffi/setup.ts";
import { measureGroupCell } from "./verify/group_fault_cell.ts";
import { whyNoNetwork } from "../bench/netns.ts";
import {
  GROUP_CELLS,
  GROUP_FAULTS,
  GROUP_STAGES,
  type GroupCell,
  groupCellName,
  STRUCK_RANKS,
} from "./verify/group_faults.ts";

/** The short form of `deno task verify group-faults`; tests/e2e/group_test.ts kills runners. */
const SHORT: readonly GroupCell[] = [
  { fault: "node killed", stage: "prefill", rank: "last", engine: "fake" },
  { fault: "runner stopped", stage: "decode", rank: "last", engine: "real" },
  { fault: "partition", stage: "decode", rank: "last", engine: "fake" },
];

const why = await whyNoNetwork();

for (const cell of SHORT) {
  const ignore = cell.fault === "partition" && why !== undefined;
  Deno.test({
    name: `${groupCellName(cell)} is heard of, mended, and leaves nothing` +
      (ignore ? ` (${why})` : ""),
    ignore,
    async fn() {
      await ensureSetup();
      await measureGroupCell(cell);
    },
  });
}

Deno.test("the matrix of groups has every fault, every stage and both ranks", () => {
  for (const fault of GROUP_FAULTS) {
    const cells = GROUP_CELLS.filter((cell) => cell.fault === fault);
    const stages = cells.map(({ stage }) => stage);
    const wanted = GROUP_STAGES.filter((stage) =>
      fault !== "corrupt weights" || stage !== "connect"
    );
    assert.deepEqual(new Set(stages), new Set(wanted), fault);
    assert.deepEqual(new Set(cells.map(({ rank }) => rank)), new Set(STRUCK_RANKS), fault);
  }
  assert.equal(GROUP_CELLS.length, new Set(GROUP_CELLS.map(groupCellName)).size);
});
