import { AppError } from "../../core/errors.ts";

/** The last part of a path: what errors call a file by, so that none tells a machine's folders. */
export function fileName(path: string): string {
  return path.slice(Math.max(path.lastIndexOf("/"), path.lastIndexOf("\\")) + 1);
}

/** Whether `path` is a folder. @throws {AppError} `load_failed` when there is nothing. */
export function isFolder(path: string): boolean {
  return attempt(path, () => Deno.statSync(path).isDirectory);
}

/** What lies in a folder. @throws {AppError} `load_failed` when it cannot be read. */
export function fileNames(folder: string): string[] {
  return attempt(folder, () => [...Deno.readDirSync(folder)].map(({ name }) => name));
}

/**
 * The first bytes of a file, and how many it has.
 * @throws {AppError} `load_failed` when it cannot be read.
 */
export function readStart(path: string, wanted: number): { bytes: Uint8Array; fileBytes: number } {
  return attempt(path, () => {
    using file = Deno.openSync(path);
    const fileBytes = file.statSync().size;
    const bytes = new Uint8Array(Math.min(wanted, fileBytes));
    let at = 0;
    while (at < bytes.length) {
      const read = file.readSync(bytes.subarray(at));
      if (read === null) break;
      at += read;
    }
    return { bytes: bytes.subarray(0, at), fileBytes };
  });
}

/**
 * Bytes from the middle of a file.
 * @throws {AppError} `load_failed` when they cannot be read.
 */
export function readRange(path: string, offset: number, count: number): Uint8Array<ArrayBuffer> {
  return attempt(path, () => {
    using file = Deno.openSync(path);
    const bytes = new Uint8Array(count);
    fill(file, offset, bytes);
    return bytes;
  });
}

/** Equally long stretches of a file, one every `stride` bytes. */
export interface FileRows {
  readonly offset: number;
  readonly count: number;
  /** Of each. */
  readonly bytes: number;
  readonly stride: number;
}

/**
 * Stretches of a file, joined; what lies between them is not read.
 * @throws {AppError} `load_failed` when they cannot be read.
 */
export function readRows(path: string, rows: FileRows): Uint8Array<ArrayBuffer> {
  const { offset, count, bytes, stride } = rows;
  if (bytes === stride) return readRange(path, offset, count * bytes);
  return attempt(path, () => {
    using file = Deno.openSync(path);
    const all = new Uint8Array(count * bytes);
    for (let row = 0; row < count; row++) {
      fill(file, offset + row * stride, all.subarray(row * bytes, (row + 1) * bytes));
    }
    return all;
  });
}

function fill(file: Deno.FsFile, offset: number, bytes: Uint8Array): void {
  file.seekSync(offset, Deno.SeekMode.Start);
  for (let at = 0; at < bytes.length;) {
    const read = file.readSync(bytes.subarray(at));
    if (read === null) throw new Error(`it ends after ${offset + at} bytes`);
    at += read;
  }
}

/** The text of a file; undefined when there is none. */
export function readTextIfAny(path: string): string | undefined {
  try {
    return Deno.readTextFileSync(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw failure(path, error);
  }
}

function attempt<T>(path: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw failure(path, error);
  }
}

function failure(path: string, error: unknown): AppError {
  return new AppError("load_failed", `Cannot read "${fileName(path)}": ${why(error)}`, {
    hint: "put the file back where it was added, readable; or exo models add PATH where it is now",
    cause: error,
  });
}

/** The system's own words would tell the whole path. */
function why(error: unknown): string {
  if (error instanceof Deno.errors.NotFound) return "there is no such file or folder, one needed";
  if (error instanceof Deno.errors.PermissionDenied) {
    return "reading it is not permitted, a readable file needed";
  }
  if (error instanceof Deno.errors.IsADirectory) return "it is a folder, a file needed";
  return "the system cannot read it";
}
