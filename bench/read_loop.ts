import { join } from "node:path";
import { AppError } from "../core/errors.ts";
import type { RunProgram } from "./processes.ts";

const SOURCE = new URL("read_loop.cpp", import.meta.url).pathname;

/** Passes of which the median counts. */
const PASSES = 15;

/** Bytes per second at which `threads` threads read `bytes` bytes of memory over and over. */
export type ReadLoop = (bytes: number, threads: number) => Promise<number>;

/** Compiles the plain loop that readers of weights are held against. */
export async function compileReadLoop(
  { run, folder, logPath }: {
    readonly run: RunProgram;
    /** Takes the program. */
    readonly folder: string;
    readonly logPath: string;
  },
): Promise<ReadLoop> {
  const program = join(folder, "read_loop");
  const flags = ["-std=c++17", "-O3", "-march=native", "-pthread"];
  await run("g++", [...flags, SOURCE, "-o", program], { logPath });
  return async (bytes, threads) => {
    const said = await run(program, [bytes, threads, PASSES].map(String), { logPath });
    const bytesPerSecond = Number(said.trim());
    if (bytesPerSecond > 0) return bytesPerSecond;
    throw new AppError(
      "internal",
      `Cannot read what the read loop printed: found ${JSON.stringify(said.slice(0, 80))}, ` +
        "bytes per second needed",
      { hint: `all that it said is in ${logPath}` },
    );
  };
}
