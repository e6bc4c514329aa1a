import { ensureSetup } from "../ffi/setup.ts";
import { type Cell, runCell } from "./verify/faults.ts";

/** The short form of `deno task verify faults`: each fault once, each stage once, each engine. */
const SHORT: readonly Cell[] = [
  { fault: "stopped", stage: "idle", engine: "fake" },
  { fault: "killed", stage: "load", engine: "fake" },
  { fault: "exits", stage: "warmup", engine: "fake" },
  { fault: "hangs", stage: "prefill", engine: "fake" },
  { fault: "garbage", stage: "decode", engine: "fake" },
  { fault: "exhausts", stage: "decode", engine: "fake" },
  { fault: "killed", stage: "prefill", engine: "real" },
];

for (const cell of SHORT) {
  const { fault, stage, engine } = cell;
  const name = `a runner (${engine}) that is hit (${fault}) in ${stage} is heard of and replaced`;
  Deno.test(`${name}, and nothing of it is left`, async () => {
    if (engine === "real") await ensureSetup();
    await runCell(cell);
  });
}
