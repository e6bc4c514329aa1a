import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import type { Readable, Writable } from "node:stream";
import { encodeFrame, FrameDecoder } from "../../core/frame_codec.ts";
import { type RunnerCommand, RunnerReport } from "../../core/frames.ts";
import { taskId } from "../support/fixtures.ts";
import { PIPES_MAIN } from "../support/programs.ts";

/** A child at the other end of the two pipes. */
function startChild() {
  const child = spawn(Deno.execPath(), ["run", "-A", "--no-check", PIPES_MAIN], {
    stdio: ["ignore", "ignore", "pipe", "pipe", "pipe"],
  });
  const commands = child.stdio[3] as Writable;
  const reports: RunnerReport[] = [];
  const decoder = new FrameDecoder();
  (child.stdio[4] as Readable).on("data", (bytes: Uint8Array) => {
    for (const { header } of decoder.push(bytes)) reports.push(RunnerReport.parse(header));
  });
  let stderr = "";
  child.stderr?.on("data", (bytes) => stderr += String(bytes));
  commands.on("error", () => {});
  const exited = new Promise<number | null>((resolve) => child.once("close", resolve));
  return { commands, reports, exited, stderr: () => stderr };
}

const warmUp = (id: string): RunnerCommand => ({
  type: "StartWarmup",
  taskId: taskId(id),
  incarnation: 1,
});

Deno.test("commands come in by one pipe and reports go out by the other, every one", async () => {
  const { commands, reports, exited } = startChild();
  const ids = Array.from({ length: 2_000 }, (_, n) => `command-${n}`);
  for (const id of ids) commands.write(encodeFrame(warmUp(id)));
  commands.end();
  assert.equal(await exited, 0);
  const acks = reports.flatMap((report) => report.type === "Ack" ? [report.taskId] : []);
  assert.deepEqual(acks, ids);
  assert.equal(reports.at(-1)?.type, "RunnerError", "the end of the node closes the queue");
});

Deno.test("a command in pieces is one command", async () => {
  const { commands, reports, exited } = startChild();
  for (const byte of encodeFrame(warmUp("slow"))) commands.write(Uint8Array.of(byte));
  commands.end();
  assert.equal(await exited, 0);
  assert.deepEqual(reports[0], { type: "Ack", incarnation: 1, taskId: "slow" });
});

Deno.test("garbage on the command pipe ends the runner with a word on stderr", async () => {
  const { commands, exited, stderr } = startChild();
  commands.write(encodeFrame({ type: "MakeCoffee" }));
  assert.equal(await exited, 1);
  assert.match(stderr(), /MakeCoffee|ZodError|invalid/i);
});
