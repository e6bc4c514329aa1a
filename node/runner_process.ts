import { type ChildProcess, spawn } from "node:child_process";
import type { Readable, Writable } from "node:stream";
import { getLogger } from "@logtape/logtape";
import { encodeFrame, FrameDecoder } from "../core/frame_codec.ts";
import { FRAME_BYTES_MAX, type RunnerCommand, RunnerReport } from "../core/frames.ts";
import type { TaskId } from "../core/ids.ts";
import { Liveness } from "./liveness.ts";
import { TailBuffer } from "./tail_buffer.ts";

const log = getLogger(["exo", "runner"]);

/** Lines of a runner's stderr kept for diagnostics. */
const STDERR_LINES = 20;

/**
 * How long a command may wait for its acknowledgement: many steps of a slow model. No later command
 * prolongs it.
 */
export const ACK_TIMEOUT_MS = 30_000;

/** Bytes of commands that may wait in front of a runner that does not read them. */
export const UNREAD_BYTES_MAX = 2 * FRAME_BYTES_MAX;

/** Times of the stop ladder, each counted from the step before. */
export interface StopLadder {
  /** How long the runner may take to leave by itself; 0 goes to SIGTERM at once. */
  readonly askMs: number;
  /** How long after SIGTERM it gets SIGKILL. */
  readonly termMs: number;
}

/** For deleting an instance (spec worker §18). */
export const LADDER_DELETE: StopLadder = { askMs: 3_000, termMs: 5_000 };

/** For the node's own end (design, Stopping). */
export const LADDER_NODE_STOP: StopLadder = { askMs: 0, termMs: 1_500 };

/** Limits that tests shorten. */
export interface RunnerLimits {
  readonly ackTimeoutMs?: number;
  readonly livenessMs?: number;
}

/** How to start a runner; `node/` itself knows no engine. */
export interface RunnerLaunch {
  readonly command: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}

/** Who hears what a runner process does. */
export interface RunnerListener {
  report(report: RunnerReport): void;
  /** The process has ended without being asked; called once, after its last report. */
  failed(reason: string, diagnostics: readonly string[]): void;
  /** The process has ended as it was told to. */
  stopped(): void;
}

/** One start of a runner: the process, its two pipes, and a limit on every wait. */
export class RunnerProcess {
  readonly incarnation: number;
  readonly #child: ChildProcess;
  readonly #listener: RunnerListener;
  readonly #stderr = new TailBuffer(STDERR_LINES);
  readonly #stdout = new TailBuffer(0);
  readonly #exited: Promise<void>;
  #lastWords: string | undefined;
  /** Why it was ended, where that says nothing of the process itself. */
  #refusal: string | undefined;
  #stopping = false;
  #watchdog: ReturnType<typeof setTimeout> | undefined;
  readonly #liveness: Liveness;
  readonly #ackTimeoutMs: number;
  readonly #acks = new Map<TaskId, ReturnType<typeof setTimeout>>();
  readonly #onUnload = () => this.#signal("SIGKILL");

  constructor(
    launch: RunnerLaunch,
    incarnation: number,
    listener: RunnerListener,
    { ackTimeoutMs = ACK_TIMEOUT_MS, livenessMs }: RunnerLimits = {},
  ) {
    this.incarnation = incarnation;
    this.#liveness = new Liveness(() => this.pid, (reason) => this.kill(reason), livenessMs);
    this.#ackTimeoutMs = ackTimeoutMs;
    this.#listener = listener;
    const args = [...launch.args, "--incarnation", String(incarnation)];
    this.#child = spawn(launch.command, args, {
      env: { ...launch.env },
      stdio: ["ignore", "pipe", "pipe", "pipe", "pipe"],
    });
    // A node that ends without stopping its runners first takes them along.
    globalThis.addEventListener("unload", this.#onUnload);
    this.#exited = this.#watchExit();
    this.#readReports();
    this.#child.stdout?.on("data", (bytes: Uint8Array) => this.#note("stdout", bytes));
    this.#child.stderr?.on("data", (bytes: Uint8Array) => this.#note("stderr", bytes));
    // A broken pipe is seen as the exit that follows it.
    this.#input?.on("error", () => {});
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  /**
   * Hands over a command; never waits. A process that does not acknowledge it, or does not read at
   * all, is stuck and is killed.
   */
  send(command: RunnerCommand): void {
    if (!this.#input?.writable) return;
    this.#input.write(encodeFrame(command));
    if (this.#input.writableLength > UNREAD_BYTES_MAX) {
      return this.kill(`it left ${this.#input.writableLength} bytes of commands unread`);
    }
    const { taskId, type } = command;
    const limit = `${type} was not acknowledged within ${this.#ackTimeoutMs / 1000} s`;
    this.#acks.set(taskId, setTimeout(() => this.kill(limit), this.#ackTimeoutMs));
    this.#liveness.watch();
  }

  /**
   * Kills the process unless `disarm` is called, or this again, within `timeoutMs`; sooner when it
   * is seen not to live, as `Liveness` has it.
   */
  arm(timeoutMs: number, what: string, mustCompute = false): void {
    this.disarm();
    const limit = `${what} took longer than ${timeoutMs / 1000} s`;
    this.#watchdog = setTimeout(() => this.kill(limit), timeoutMs);
    this.#liveness.watch(mustCompute);
  }

  /** Ends it for something that is not its doing; the failure's reason is this one alone. */
  refuse(reason: string): void {
    this.#refusal ??= reason;
    this.kill(reason);
  }

  /** Ends the process by force; that counts as a failure with this reason. */
  kill(reason: string): void {
    this.#lastWords ??= reason;
    this.#signal("SIGKILL");
  }

  /** Whether a limit on the next sign of life is set. */
  get isArmed(): boolean {
    return this.#watchdog !== undefined;
  }

  disarm(): void {
    clearTimeout(this.#watchdog);
    this.#watchdog = undefined;
    this.#restIfDone();
  }

  /** Only a process that owes something is looked at. */
  #restIfDone(): void {
    if (!this.isArmed && this.#acks.size === 0) this.#liveness.rest();
  }

  #acknowledged(taskId: TaskId): void {
    clearTimeout(this.#acks.get(taskId));
    this.#acks.delete(taskId);
    this.#restIfDone();
  }

  /**
   * Ends the process, by force where it must; resolves when it is gone. A second call with a
   * steeper ladder hurries the first.
   */
  async stop(ladder: StopLadder, shutdown?: RunnerCommand): Promise<void> {
    this.#stopping = true;
    this.disarm();
    if (shutdown && ladder.askMs > 0) this.send(shutdown);
    const term = setTimeout(() => this.#signal("SIGTERM"), shutdown ? ladder.askMs : 0);
    const kill = setTimeout(
      () => this.#signal("SIGKILL"),
      (shutdown ? ladder.askMs : 0) + ladder.termMs,
    );
    await this.#exited;
    clearTimeout(term);
    clearTimeout(kill);
  }

  /** By process id: `ChildProcess.kill` sends nothing after its first signal. */
  #signal(signal: "SIGTERM" | "SIGKILL"): void {
    if (this.pid === undefined || this.#child.exitCode !== null) return;
    try {
      Deno.kill(this.pid, signal);
    } catch (cause) {
      log.debug("cannot send {signal} to {pid}: {cause}", { signal, pid: this.pid, cause });
    }
  }

  /** Absent, as the output is, when the process could not be started. */
  get #input(): Writable | undefined {
    return this.#child.stdio[3] as Writable | undefined;
  }

  #readReports(): void {
    const output = this.#child.stdio[4] as Readable | undefined;
    if (!output) return;
    const decoder = new FrameDecoder();
    output.on("data", (bytes: Uint8Array) => {
      try {
        for (const { header } of decoder.push(bytes)) this.#report(RunnerReport.parse(header));
      } catch (cause) {
        const found = cause instanceof Error ? cause.message : String(cause);
        output.removeAllListeners("data");
        this.kill(`its channel carried garbage: ${found.slice(0, 200)}`);
      }
    });
    output.on("error", () => {});
  }

  #report(report: RunnerReport): void {
    if (report.incarnation !== this.incarnation) return;
    this.#liveness.sign();
    if (report.type === "Ack") this.#acknowledged(report.taskId);
    if (report.type === "RunnerError") this.#lastWords ??= report.reason;
    else this.#listener.report(report);
  }

  #watchExit(): Promise<void> {
    return new Promise((resolve) => {
      let isOver = false;
      const ended = (how: string) => {
        if (isOver) return;
        isOver = true;
        globalThis.removeEventListener("unload", this.#onUnload);
        this.disarm();
        for (const taskId of this.#acks.keys()) this.#acknowledged(taskId);
        if (this.#stopping) this.#listener.stopped();
        else this.#listener.failed(this.#reason(how), this.#stderr.lines());
        resolve();
      };
      this.#child.once("error", (cause) => ended(`it cannot be started: ${cause.message}`));
      // "close" comes after the last bytes of every pipe, so no report is lost.
      this.#child.once(
        "close",
        (code, signal) => ended(signal ? `signal ${signal}` : `exit ${code}`),
      );
    });
  }

  #reason(how: string): string {
    if (this.#refusal !== undefined) return this.#refusal;
    return this.#lastWords === undefined
      ? `Runner terminated (${how})`
      : `Runner terminated (${how}): ${this.#lastWords}`;
  }

  #note(stream: "stdout" | "stderr", bytes: Uint8Array): void {
    for (const line of (stream === "stderr" ? this.#stderr : this.#stdout).push(bytes)) {
      log.debug("{pid} {stream}: {line}", { pid: this.pid, stream, line });
    }
  }
}
