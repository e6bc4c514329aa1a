import { type Cell, runCell } from "./verify/faults.ts";

/** The short form of `deno task verify faults`: each fault once, each stage once. */
const SHORT: readonly Cell[] = [
  { fault: "stopped", stage: "idle" },
  { fault: "killed", stage: "load" },
  { fault: "exits", stage: "warmup" },
  { fault: "hangs", stage: "prefill" },
  { fault: "garbage", stage: "decode" },
  { fault: "exhausts", stage: "decode" },
];

for (const cell of SHORT) {
  Deno.test(`a runner that is hit (${cell.fault}) in ${cell.stage} is heard of and replaced`, () =>
    runCell(cell));
}
