/** Starts other programs, knows what they use, and leaves none behind. */
import { AppError } from "../core/errors.ts";

/** How a program is started. */
export interface StartOptions {
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** File that takes what the program says on stderr (and on stdout, unless it is wanted). */
  readonly logPath: string;
}

/** Runs a program to its end; resolves to what it said on stdout. */
export type RunProgram = (
  program: string,
  args: readonly string[],
  options: StartOptions,
) => Promise<string>;

/** A program that runs. */
export interface StartedProcess {
  readonly pid: number;
  readonly logPath: string;
  /** Its exit code, once it has ended. */
  readonly ended: Promise<number>;
  /** Ends it and its children: asked first, forced after some seconds. */
  stop(): Promise<void>;
}

/** Time that a program has between SIGTERM and SIGKILL. */
const STOP_MS_MAX = 5_000;

/** Lines of a log that an error message shows. */
const LOG_LINES_SHOWN = 8;

/** All that was started here; leaving the block ends it, and so does the signal. */
export class Processes implements AsyncDisposable {
  readonly #started = new Set<StartedProcess>();
  readonly #signal: AbortSignal;

  constructor(signal: AbortSignal) {
    this.#signal = signal;
    signal.addEventListener("abort", () => void this[Symbol.asyncDispose](), { once: true });
  }

  /** Starts a program that serves until it is stopped. @throws {AppError} if it is missing. */
  start(program: string, args: readonly string[], options: StartOptions): StartedProcess {
    return this.#start(program, args, options, "null").process;
  }

  /** Runs a program to its end. @throws {AppError} `setup_failed` with its last lines. */
  readonly run: RunProgram = async (program, args, options) => {
    const { process, child } = this.#start(program, args, options, "piped");
    const stdout = await new Response(child.stdout).text();
    const code = await process.ended;
    this.#signal.throwIfAborted();
    if (code !== 0) throw failed(program, args, { code, logPath: options.logPath, stdout });
    return stdout;
  };

  #start(
    program: string,
    args: readonly string[],
    { cwd, env, logPath }: StartOptions,
    stdout: "null" | "piped",
  ): { process: StartedProcess; child: Deno.ChildProcess } {
    this.#signal.throwIfAborted();
    let child: Deno.ChildProcess;
    try {
      child = new Deno.Command(program, {
        args: [...args],
        stdin: "null",
        stdout,
        stderr: "piped",
        // A group of its own, so that its children end with it.
        detached: true,
        ...(cwd === undefined ? {} : { cwd }),
        ...(env === undefined ? {} : { env: { ...env } }),
      }).spawn();
    } catch (cause) {
      if (!(cause instanceof Deno.errors.NotFound)) throw cause;
      throw missing(program);
    }
    const process = this.#watch(child, logPath);
    return { process, child };
  }

  #watch(child: Deno.ChildProcess, logPath: string): StartedProcess {
    const { pid } = child;
    const written = append(child.stderr, logPath);
    const ended = Promise.all([child.status, written]).then(([{ code }]) => code);
    const process: StartedProcess = {
      pid,
      logPath,
      ended,
      stop: async () => {
        signalGroup(pid, "SIGTERM");
        const timer = setTimeout(() => signalGroup(pid, "SIGKILL"), STOP_MS_MAX);
        await ended.finally(() => clearTimeout(timer));
        signalGroup(pid, "SIGKILL");
      },
    };
    this.#started.add(process);
    const forget = () => void this.#started.delete(process);
    ended.then(forget, forget);
    return process;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.#started].map((process) => process.stop()));
  }
}

async function append(stream: ReadableStream<Uint8Array>, path: string): Promise<void> {
  const file = await Deno.open(path, { create: true, append: true });
  await stream.pipeTo(file.writable);
}

function signalGroup(pid: number, signal: Deno.Signal): void {
  try {
    Deno.kill(-pid, signal);
  } catch {
    // It has ended already.
  }
}

/** Packages that bring a program, where its name is not theirs. */
const BRINGS: Readonly<Record<string, string>> = { python3: "python3 python3-venv", npm: "npm" };

function missing(program: string): AppError {
  return new AppError(
    "setup_failed",
    `Cannot run ${program}: found no such program, needed to install or measure a peer`,
    { hint: `install ${BRINGS[program] ?? program} with the system's package manager` },
  );
}

function failed(
  program: string,
  args: readonly string[],
  { code, logPath, stdout }: { code: number; logPath: string; stdout: string },
): AppError {
  const said = [stdout, readOr(logPath)].join("\n").trim().split("\n").slice(-LOG_LINES_SHOWN);
  return new AppError(
    "setup_failed",
    `Cannot run ${program} ${args.join(" ")}: exit code ${code}, it said\n${said.join("\n")}`,
    { hint: `all that it said is in ${logPath}` },
  );
}

function readOr(path: string): string {
  try {
    return Deno.readTextFileSync(path);
  } catch {
    return "";
  }
}
