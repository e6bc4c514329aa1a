/** A runner process that behaves as its first argument says, for tests of who supervises it. */
import { writeSync } from "node:fs";
import { encodeFrame } from "../../core/frame_codec.ts";
import { CommandQueue } from "../../engines/command_queue.ts";
import { readCommands, REPORTS_FD } from "../../engines/pipes.ts";

const [how = "", detail = ""] = Deno.args;
const incarnation = Number(Deno.args[Deno.args.indexOf("--incarnation") + 1]);
const queue = new CommandQueue();
readCommands(queue);

const report = (header: Record<string, unknown>) =>
  void writeSync(REPORTS_FD, encodeFrame({ incarnation, ...header }));
const idle = () => report({ type: "StatusUpdated", status: { type: "RunnerIdle" } });
const say = (text: string) => void Deno.stderr.writeSync(new TextEncoder().encode(text));
/** Lives, deaf to all commands, until a signal ends it or the node is gone. */
const linger = async () => {
  while (await queue.next() !== "closed");
};

const BEHAVIOURS: Record<string, () => void | Promise<void>> = {
  exit: () => {
    say("loading\nlast words\n");
    idle();
    Deno.exit(Number(detail));
  },
  error: () => {
    report({ type: "RunnerError", reason: detail });
    Deno.exit(1);
  },
  // Has failed, and is slow to go.
  failing: async () => {
    report({ type: "RunnerError", reason: detail });
    idle();
    while (true) {
      const next = await queue.next();
      if (next === "closed" || next.type === "Shutdown") Deno.exit(1);
    }
  },
  broken: () => {
    report({ type: "RunnerError", reason: detail, code: "group_broken" });
    Deno.exit(1);
  },
  stderr: () => {
    say(detail);
    Deno.exit(5);
  },
  signal: async () => {
    Deno.kill(Deno.pid, detail as Deno.Signal);
    await linger();
  },
  garbage: async () => {
    writeSync(REPORTS_FD, new TextEncoder().encode("Segmentation fault"));
    await linger();
  },
  nonsense: async () => {
    report({ type: "CoffeeReady" });
    await linger();
  },
  half: () => {
    writeSync(REPORTS_FD, encodeFrame({ incarnation, type: "Ack", taskId: "t" }).subarray(0, 12));
    Deno.exit(2);
  },
  stale: () => {
    report({ type: "StatusUpdated", status: { type: "RunnerReady" }, incarnation: 1 });
    idle();
    Deno.exit(3);
  },
  flood: () => {
    for (let n = 0; n < 320; n++) say("x".repeat(64 * 1024) + (detail === "lines" ? "\n" : ""));
    Deno.exit(4);
  },
  silent: async () => {
    idle();
    await linger();
  },
  stubborn: async () => {
    Deno.addSignalListener("SIGTERM", () => say("no\n"));
    idle();
    await linger();
  },
  // Ready at once; the first request breaks it, and SIGTERM does not end it.
  stuck: async () => {
    Deno.addSignalListener("SIGTERM", () => say("no\n"));
    report({ type: "StatusUpdated", status: { type: "RunnerReady" } });
    for (let next = await queue.next(); next !== "closed"; next = await queue.next()) {
      const { taskId, type } = next;
      report({ type: "Ack", taskId });
      if (type !== "TextGeneration") continue;
      report({ type: "TaskUpdated", taskId, taskStatus: "Running" });
      writeSync(REPORTS_FD, new TextEncoder().encode("Segmentation fault"));
    }
  },
  // Ends after SIGTERM and a command, with one more report.
  chatty: async () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    Deno.addSignalListener("SIGTERM", resolve);
    idle();
    await queue.next();
    await promise;
    report({ type: "StatusUpdated", status: { type: "RunnerReady" } });
    Deno.exit(0);
  },
  polite: async () => {
    Deno.addSignalListener("SIGTERM", () => Deno.exit(0));
    idle();
    for (let next = await queue.next(); next !== "closed"; next = await queue.next()) {
      report({ type: "Ack", taskId: next.taskId });
      if (next.type === "Shutdown") Deno.exit(0);
    }
  },
};

await BEHAVIOURS[how]?.();
