import { ensureSetup } from "../ffi/setup.ts";
import { type Cell, IN_FLIGHT_MANY, runCell } from "./verify/faults.ts";

/** The short form of `deno task verify faults`: each fault once, each stage once, each engine. */
const SHORT: readonly Cell[] = [
  { fault: "stopped", stage: "idle", engine: "fake", inFlight: 1 },
  { fault: "killed", stage: "load", engine: "fake", inFlight: 1 },
  { fault: "exits", stage: "warmup", engine: "fake", inFlight: 1 },
  { fault: "hangs", stage: "prefill", engine: "fake", inFlight: IN_FLIGHT_MANY },
  { fault: "garbage", stage: "decode", engine: "fake", inFlight: 1 },
  { fault: "exhausts", stage: "decode", engine: "fake", inFlight: IN_FLIGHT_MANY },
  { fault: "killed", stage: "prefill", engine: "real", inFlight: IN_FLIGHT_MANY },
];

for (const cell of SHORT) {
  const { fault, stage, engine, inFlight } = cell;
  const where = `${stage}, ${inFlight} in flight,`;
  const name = `a runner (${engine}) that is hit (${fault}) in ${where} is heard of and replaced`;
  Deno.test(`${name}, and nothing of it is left`, async () => {
    if (engine === "real") await ensureSetup();
    await runCell(cell);
  });
}
