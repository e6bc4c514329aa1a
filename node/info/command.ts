import { systemReason } from "../system_error.ts";

/** Most bytes that a command may say before it is ended: all of them say less than a tenth. */
export const OUTPUT_BYTES_MAX = 4 * 1024 * 1024;

/** Longest line of a command that goes on for as long as the node does (spec §5). */
export const LINE_BYTES_MAX = 8 * 1024;

/** What a command has said, or why it has said nothing. */
export type CommandResult =
  | { readonly ok: true; readonly text: string }
  | CommandFailure;

/** Why a command has ended. */
export interface CommandFailure {
  readonly ok: false;
  /** There is no such program here. */
  readonly isMissing: boolean;
  readonly reason: string;
}

/** A program's path or name, and its arguments. */
export type CommandWords = readonly [string, ...string[]];

/** Runs a command to its end, at most `timeoutMs`; `signal` ends it at once. */
export async function runCommand(
  words: CommandWords,
  { timeoutMs, signal }: { readonly timeoutMs: number; readonly signal: AbortSignal },
): Promise<CommandResult> {
  const decoder = new TextDecoder();
  let text = "";
  let byteCount = 0;
  const failure = await drive(words, {
    signal,
    limitMs: timeoutMs,
    onBytes: (bytes) => {
      byteCount += bytes.length;
      if (byteCount > OUTPUT_BYTES_MAX) return `it said more than ${OUTPUT_BYTES_MAX} bytes`;
      text += decoder.decode(bytes, { stream: true });
      return undefined;
    },
  });
  return failure ?? { ok: true, text };
}

/**
 * Runs a command that goes on, and hands on each of its lines; resolves with why it has ended:
 * by itself, by `signal`, or because it was silent for `silenceMs`.
 */
export async function followCommand(
  words: CommandWords,
  { silenceMs, signal, onLine }: {
    readonly silenceMs: number;
    readonly signal: AbortSignal;
    readonly onLine: (line: string) => void;
  },
): Promise<CommandFailure> {
  const decoder = new TextDecoder();
  let open = "";
  const failure = await drive(words, {
    signal,
    limitMs: silenceMs,
    isLimitOnSilence: true,
    onBytes: (bytes) => {
      const lines = (open + decoder.decode(bytes, { stream: true })).split("\n");
      open = lines.pop() as string;
      for (const line of lines) onLine(line);
      return open.length > LINE_BYTES_MAX ? `a line over ${LINE_BYTES_MAX} bytes` : undefined;
    },
  });
  return failure ?? { ok: false, isMissing: false, reason: "it ended" };
}

interface Drive {
  readonly signal: AbortSignal;
  readonly limitMs: number;
  /** The limit begins anew with all that is said. */
  readonly isLimitOnSilence?: boolean;
  /** Takes what was said; a text is why no more of it is wanted. */
  readonly onBytes: (bytes: Uint8Array) => string | undefined;
}

/** Undefined when the command has ended well. No process is left, however this ends. */
async function drive(words: CommandWords, options: Drive): Promise<CommandFailure | undefined> {
  const { signal, limitMs, isLimitOnSilence = false, onBytes } = options;
  const failed = (reason: string, isMissing = false) => ({ ok: false as const, isMissing, reason });
  if (signal.aborted) return failed(STOPPED);
  let child: Deno.ChildProcess;
  try {
    child = start(words);
  } catch (cause) {
    return failed(systemReason(cause), cause instanceof Deno.errors.NotFound);
  }
  const reader = child.stdout.getReader();
  let ended: string | undefined;
  const end = (reason: string) => {
    ended ??= reason;
    kill(child);
    // What it has started itself may hold the pipe open.
    void reader.cancel().catch(() => {});
  };
  const onLate = () => end(`it took longer than ${limitMs} ms`);
  const onAbort = () => end(STOPPED);
  let timer = setTimeout(onLate, limitMs);
  signal.addEventListener("abort", onAbort);
  try {
    for (let read = await reader.read(); !read.done; read = await reader.read()) {
      const unwanted = onBytes(read.value);
      if (unwanted !== undefined) end(unwanted);
      if (!isLimitOnSilence) continue;
      clearTimeout(timer);
      timer = setTimeout(onLate, limitMs);
    }
    const { code } = await child.status;
    if (ended !== undefined) return failed(ended);
    return code === 0 ? undefined : failed(`it ended with ${code}`);
  } catch (cause) {
    end(systemReason(cause));
    return failed(ended ?? STOPPED);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", onAbort);
  }
}

const STOPPED = "the node is stopping";

function start([name, ...args]: CommandWords): Deno.ChildProcess {
  return new Deno.Command(name, {
    args,
    // Words are matched in what commands say.
    env: { LC_ALL: "C" },
    stdin: "null",
    stdout: "piped",
    stderr: "null",
  }).spawn();
}

function kill(child: Deno.ChildProcess): void {
  try {
    child.kill("SIGKILL");
  } catch {
    // It has ended.
  }
}
