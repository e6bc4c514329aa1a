/** Opens the library once per process and turns a failed call into an error. */
import { type NativeCalls, type NativeName, symbolTable } from "./declarations.ts";
import { GroupError, NativeError, SetupError } from "./errors.ts";
import { findLibrary } from "./library.ts";

const MESSAGE_BYTES_MAX = 4096;

/**
 * For 2 to this power of cycles OpenBLAS's threads spin before they sleep, also when they are made:
 * 30 ms by default, in which they take the cores from those that bring a model into memory.
 */
const BLAS_TIMEOUT = "OPENBLAS_THREAD_TIMEOUT";

let calls: NativeCalls | undefined;

/**
 * The C functions; the first call opens the library. MLX binds its streams to threads: a tensor is
 * known only on the thread (the worker) that made it.
 * @throws {SetupError} if the library is missing or does not load.
 */
export function native(): NativeCalls {
  return calls ??= open(findLibrary());
}

function open(path: string): NativeCalls {
  if (!Deno.env.has(BLAS_TIMEOUT)) Deno.env.set(BLAS_TIMEOUT, "4");
  try {
    return Deno.dlopen(path, symbolTable()).symbols as unknown as NativeCalls;
  } catch (cause) {
    throw new SetupError(
      `Cannot load the MLX shim "${path}": ${unloadable(path, cause)}, one of this version needed`,
      "if it is from another version or machine, unset EXO_MLX_LIBRARY and run: deno task setup",
      { cause },
    );
  }
}

/** Why a library does not load: the system's words, which repeat themselves, once. */
function unloadable(path: string, cause: unknown): string {
  const reason = cause instanceof Error ? cause.message : String(cause);
  const missing = /^Failed to register symbol (\w+)/.exec(reason)?.[1];
  if (missing !== undefined) return `it lacks the function "${missing}"`;
  return reason.replace(/^(Could not open library: )+/, "").replace(`${path}: `, "");
}

/** What a C function returns when a group of ranks is broken. */
const GROUP_BROKEN = -2;

/**
 * Passes on what a C function returned.
 * @throws {NativeError} if that is a failure.
 * @throws {GroupError} if it is one of a group.
 */
export function check(name: NativeName, returned: number): number {
  if (returned === GROUP_BROKEN) throw new GroupError(lastMessage());
  if (returned < 0) throw new NativeError(name, lastMessage());
  return returned;
}

function lastMessage(): string {
  const bytes = new Uint8Array(MESSAGE_BYTES_MAX);
  const length = native().shim_last_message(bytes, bytes.length);
  return new TextDecoder().decode(bytes.subarray(0, length));
}

/** The text that the last call left, of this many bytes. */
export function takeText(byteCount: number): Uint8Array {
  const bytes = new Uint8Array(byteCount);
  native().shim_take_text(bytes, byteCount);
  return bytes;
}
