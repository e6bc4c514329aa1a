import { deepEqual, equal, match, rejects } from "node:assert/strict";
import { join } from "node:path";
import { Processes } from "../../bench/processes.ts";
import { usageOf } from "../../bench/process_usage.ts";
import { AppError } from "../../core/errors.ts";
import { eventually } from "../support/eventually.ts";
import { TempDir } from "../support/temp_dir.ts";

const never = new AbortController().signal;

/** A program that starts a child, says its id in a file, and never ends. */
const parent = (
  file: string,
) => ["-c", `sleep 1000 & echo $! > ${file}.new; mv ${file}.new ${file}; wait`];

async function childOf(file: string): Promise<number> {
  let text = "";
  await eventually("the child is named", async () => {
    text = await Deno.readTextFile(file).catch(() => "");
    return text !== "";
  });
  return Number(text);
}

Deno.test("run() gives what a program says, and keeps its stderr", async () => {
  await using dir = await TempDir.make();
  await using processes = new Processes(never);
  const logPath = join(dir.path, "log");
  const said = await processes.run("sh", ["-c", "echo out; echo err >&2"], { logPath });
  equal(said, "out\n");
  equal(await Deno.readTextFile(logPath), "err\n");
});

Deno.test("run() names a program that is missing", async () => {
  await using dir = await TempDir.make();
  await using processes = new Processes(never);
  const logPath = join(dir.path, "log");
  await rejects(processes.run("no-such-program", [], { logPath }), (error: AppError) => {
    equal(error.code, "setup_failed");
    match(error.message, /^Cannot run no-such-program: found no such program, needed/);
    match(error.hint ?? "", /install no-such-program/);
    return true;
  });
});

Deno.test("run() shows the last lines of a program that failed", async () => {
  await using dir = await TempDir.make();
  await using processes = new Processes(never);
  const logPath = join(dir.path, "log");
  const run = processes.run("sh", ["-c", "echo no room >&2; exit 3"], { logPath });
  await rejects(run, (error: AppError) => {
    deepEqual([error.code, error.hint], ["setup_failed", `all that it said is in ${logPath}`]);
    match(error.message, /^Cannot run sh .*: exit code 3, it said\nno room$/);
    return true;
  });
});

Deno.test("Leaving the block ends what was started, and its children", async () => {
  await using dir = await TempDir.make();
  const file = join(dir.path, "pid");
  let pids: number[] = [];
  {
    await using processes = new Processes(never);
    const { pid } = processes.start("sh", parent(file), { logPath: join(dir.path, "log") });
    pids = [pid, await childOf(file)];
    if (Deno.build.os === "linux") equal(pids.map(usageOf).includes(null), false);
  }
  await eventually("both have ended", () => pids.every((pid) => !isAlive(pid)));
});

Deno.test("An interruption ends what was started, and run() rejects", async () => {
  await using dir = await TempDir.make();
  const controller = new AbortController();
  await using processes = new Processes(controller.signal);
  const file = join(dir.path, "pid");
  const options = { logPath: join(dir.path, "log") };
  const run = processes.run("sh", parent(file), options);
  const child = await childOf(file);
  controller.abort();
  await rejects(run, { name: "AbortError" });
  await eventually("the child has ended", () => !isAlive(child));
  await rejects(processes.run("true", [], options), { name: "AbortError" });
});

/** Whether a process of this id exists and has not ended; nobody may have reaped it yet. */
function isAlive(pid: number): boolean {
  try {
    Deno.kill(pid, "SIGCONT");
    return !/^State:\s+Z/m.test(Deno.readTextFileSync(`/proc/${pid}/status`));
  } catch {
    return false;
  }
}
