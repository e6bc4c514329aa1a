import { ok, rejects } from "node:assert/strict";
import { join } from "node:path";
import { Processes } from "../../bench/processes.ts";
import { compileReadLoop } from "../../bench/read_loop.ts";
import { MIB } from "../../core/units.ts";
import { TempDir } from "../support/temp_dir.ts";

Deno.test("The read loop reads on one thread and on two, and tells how fast", async () => {
  await using folder = await TempDir.make();
  await using processes = new Processes(new AbortController().signal);
  const { run } = processes;
  const logPath = join(folder.path, "log");
  const readLoop = await compileReadLoop({ run, folder: folder.path, logPath });
  for (const threads of [1, 2]) {
    const speed = await readLoop(8 * MIB, threads);
    ok(speed > 1e8 && speed < 1e13, `${speed} bytes per second`);
  }
  await rejects(() => readLoop(1, 1), /exit code 2/);
});
