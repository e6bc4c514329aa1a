import { Socket } from "node:net";
import { encodeFrame, FrameDecoder } from "../core/frame_codec.ts";
import { RunnerCommand, type RunnerReport } from "../core/frames.ts";
import type { CommandQueue } from "./command_queue.ts";

/** Where a runner reads its commands (design, runner frames). */
export const COMMANDS_FD = 3;

/** Where a runner writes its reports. */
export const REPORTS_FD = 4;

/** Reads commands into the queue; closes it when the node is gone. */
export function readCommands(queue: CommandQueue): void {
  const input = new Socket({ fd: COMMANDS_FD, readable: true, writable: false });
  const decoder = new FrameDecoder();
  input.on("data", (bytes: Uint8Array) => {
    for (const { header } of decoder.push(bytes)) queue.push(RunnerCommand.parse(header));
  });
  for (const end of ["end", "close", "error"]) input.on(end, () => queue.close());
}

/** Writes reports; `flush` resolves once all of them are in the pipe. */
export function reportWriter(): {
  emit: (report: RunnerReport) => void;
  /** Bytes as they are: for tests of what a broken runner says. */
  write: (bytes: Uint8Array) => void;
  flush: () => Promise<void>;
} {
  const output = new Socket({ fd: REPORTS_FD, readable: false, writable: true });
  // A broken pipe means that the node is gone; the queue's end says so too.
  output.on("error", () => {});
  return {
    emit: (report) => void output.write(encodeFrame(report)),
    write: (bytes) => void output.write(bytes),
    flush: () => new Promise((resolve) => output.end(() => resolve())),
  };
}
