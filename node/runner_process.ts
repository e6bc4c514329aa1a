import { type ChildProcess, spawn } from "node:child_process";
import type { Readable, Writable } from "node:stream";
import { getLogger } from "@logtape/logtape";
import { diagnosis } from "../core/runner_diagnosis.ts";
import type { ErrorCode } from "../core/errors.ts";
import { encodeFrame, FrameDecoder } from "../core/frame_codec.ts";
import { type RunnerCommand, RunnerReport } from "../core/frames.ts";
import type { TaskId } from "../core/ids.ts";
import { type AckLimit, Acknowledgements } from "./acknowledgements.ts";
import { Liveness } from "./liveness.ts";
import { processState, type ReadProcess } from "./process_state.ts";
import {
  ACK_TIMEOUT_MS,
  HANG_MS,
  type RunnerLimit,
  type RunnerLimits,
  type StopLadder,
  UNREAD_BYTES_MAX,
  UNSEEN_HANG_MS,
} from "./runner_limits.ts";
import { TailBuffer } from "./tail_buffer.ts";

const log = getLogger(["exo", "runner"]);

/** Lines of a runner's stderr kept for diagnostics: what led to an error stands before it. */
const STDERR_LINES = 40;

/** How to start a runner; `node/` itself knows no engine. */
export interface RunnerLaunch {
  readonly command: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}

/** Why a process has ended without being asked. */
export interface RunnerFailure {
  readonly reason: string;
  /** The last lines that it wrote to stderr. */
  readonly diagnostics: readonly string[];
  /** What its own last words were, if it had any. */
  readonly code: ErrorCode | undefined;
}

/** Who hears what a runner process does. */
export interface RunnerListener {
  report(report: RunnerReport): void;
  /**
   * The process is told to end for a failure, and may take its time (`rdmaTermMs`): it reports no
   * more. Called once, before `failed`.
   */
  ending(failure: Pick<RunnerFailure, "reason" | "code">): void;
  /** The process has ended without being asked; called once, after its last report. */
  failed(failure: RunnerFailure): void;
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
  #wedged: string | undefined;
  /** Why it was ended, where that says nothing of the process itself. */
  #refusal: string | undefined;
  #stopping = false;
  #isOver = false;
  #watchdog: ReturnType<typeof setTimeout> | undefined;
  readonly #liveness: Liveness;
  readonly #ackTimeoutMs: number;
  readonly #acks = new Acknowledgements();
  readonly #unseenHangMs: number;
  readonly #readProcess: ReadProcess;
  readonly #rdmaTermMs: number | undefined;
  #code: ErrorCode | undefined;
  #lastResort: ReturnType<typeof setTimeout> | undefined;
  readonly #onUnload = () => this.#signal(this.#rdmaTermMs === undefined ? "SIGKILL" : "SIGTERM");

  constructor(
    launch: RunnerLaunch,
    incarnation: number,
    listener: RunnerListener,
    { hangMs = HANG_MS, ...limits }: RunnerLimits = {},
  ) {
    this.incarnation = incarnation;
    this.#unseenHangMs = limits.unseenHangMs ?? UNSEEN_HANG_MS;
    this.#rdmaTermMs = limits.rdmaTermMs;
    this.#ackTimeoutMs = limits.ackTimeoutMs ?? ACK_TIMEOUT_MS;
    this.#readProcess = limits.readProcess ?? processState;
    this.#liveness = new Liveness({
      pid: () => this.pid,
      onDead: (reason) => this.kill(reason),
      owes: () => this.#acks.oldestMs >= hangMs,
      everyMs: limits.livenessMs,
      readProcess: this.#readProcess,
    });
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
    const limit = `${command.type} was not acknowledged within ${this.#ackTimeoutMs / 1000} s`;
    const onReached = () => this.kill(limit);
    this.#send(command, { ms: this.#ackTimeoutMs, onReached });
  }

  /**
   * Asks for a sign of life. Where the system says what the process does, that decides how long the
   * answer may take; where it does not, a limit has to.
   */
  ping(taskId: TaskId): void {
    const isSeen = this.pid !== undefined && this.#readProcess(this.pid) !== undefined;
    const ms = this.#unseenHangMs;
    const onReached = () => this.kill(`it has answered nothing for ${ms / 1000} s`);
    const command = { type: "Ping" as const, taskId, incarnation: this.incarnation };
    this.#send(command, isSeen ? undefined : { ms, onReached });
  }

  #send(command: RunnerCommand, limit: AckLimit | undefined): void {
    if (!this.#input?.writable) return;
    this.#input.write(encodeFrame(command));
    if (this.#input.writableLength > UNREAD_BYTES_MAX) {
      return this.kill(`it left ${this.#input.writableLength} bytes of commands unread`);
    }
    this.#acks.expect(command.taskId, limit);
    this.#liveness.watch();
  }

  /** Whether it has acknowledged all that it was told. */
  get isAnswering(): boolean {
    return this.#acks.isEmpty;
  }

  /**
   * Kills the process unless `disarm` is called, or this again, in time; sooner when it is seen not
   * to live, as `Liveness` has it.
   */
  arm({ ms, reason, code }: RunnerLimit, mustCompute = false): void {
    this.disarm();
    this.#watchdog = setTimeout(() => {
      this.#code ??= code;
      this.kill(reason());
    }, ms);
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
    if (this.#rdmaTermMs === undefined) return this.#signal("SIGKILL");
    this.#signal("SIGTERM");
    if (this.#lastResort !== undefined || this.#isOver) return;
    this.#lastResort = setTimeout(() => this.#force(), this.#rdmaTermMs);
    if (!this.#stopping) this.#listener.ending({ reason, code: this.#code });
  }

  /** The last step, which a device that is used by RDMA may not survive. */
  #force(): void {
    if (this.#rdmaTermMs !== undefined) {
      const seconds = this.#rdmaTermMs / 1000;
      this.#wedged = `it was killed ${seconds} s after SIGTERM: if RDMA fails from now on, ` +
        "restart the machine";
      log.warn("runner {pid}: {what}", { pid: this.pid, what: this.#wedged });
    }
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
    if (!this.isArmed && this.#acks.isEmpty) this.#liveness.rest();
  }

  #acknowledged(taskId: TaskId): void {
    this.#acks.came(taskId);
    this.#restIfDone();
  }

  /**
   * Ends the process, by force where it must; resolves when it is gone. A second call with a
   * steeper ladder hurries the first. One that has begun to end for a reason of its own still fails
   * with it: other ranks may be gone before it is, and they know only that it went.
   */
  async stop(ladder: StopLadder, shutdown?: RunnerCommand): Promise<void> {
    this.#stopping ||= this.#lastWords === undefined;
    this.disarm();
    if (shutdown && ladder.askMs > 0) this.send(shutdown);
    const askMs = shutdown ? ladder.askMs : 0;
    const term = setTimeout(() => this.#signal("SIGTERM"), askMs);
    const kill = setTimeout(() => this.#force(), askMs + (this.#rdmaTermMs ?? ladder.termMs));
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
    if (report.type !== "RunnerError") {
      // Of one that is given up, whatever it still does would be taken for a sign of service.
      if (this.#lastResort === undefined) this.#listener.report(report);
      return;
    }
    this.#lastWords ??= report.reason;
    this.#code ??= report.code;
  }

  #watchExit(): Promise<void> {
    return new Promise((resolve) => {
      const ended = (how: string) => {
        if (this.#isOver) return;
        this.#isOver = true;
        globalThis.removeEventListener("unload", this.#onUnload);
        this.#acks.drop();
        this.disarm();
        clearTimeout(this.#lastResort);
        if (this.#stopping) this.#listener.stopped();
        else this.#listener.failed(this.#failure(how));
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

  #failure(how: string): RunnerFailure {
    const diagnostics = this.#stderr.lines();
    return { reason: this.#reason(how, diagnostics), diagnostics, code: this.#code };
  }

  #reason(how: string, diagnostics: readonly string[]): string {
    if (this.#refusal !== undefined) return this.#refusal;
    const words = [this.#lastWords, diagnosis(diagnostics), this.#wedged]
      .filter((one) => one !== undefined).join("; ");
    return `Runner terminated (${how})${words === "" ? "" : `: ${words}`}`;
  }

  #note(stream: "stdout" | "stderr", bytes: Uint8Array): void {
    for (const line of (stream === "stderr" ? this.#stderr : this.#stdout).push(bytes)) {
      log.debug("{pid} {stream}: {line}", { pid: this.pid, stream, line });
    }
  }
}
