import { open, readFile, stat } from "node:fs/promises";
import { resolve } from "node:path";
import { AppError } from "../core/errors.ts";
import { clusterSecret, privateNetworkKey, SECRET_BYTES } from "../net/cluster_secret.ts";
import { systemReason } from "../node/system_error.ts";

/** Largest file that is read as a secret. */
const FILE_BYTES_MAX = 64 * 1024;

/** The bits of a file's mode by which others than its owner may read or change it. */
const OTHERS = 0o077;

/** A secret that nobody has. */
export function newClusterSecret(): string {
  return clusterSecret(crypto.getRandomValues(new Uint8Array(SECRET_BYTES)));
}

/**
 * Writes a new secret to a file of its owner's alone.
 * @throws {AppError} `conflict` when there is something already: a secret that is replaced would
 * shut out its cluster; `storage_failed` when it cannot be written.
 */
export async function writeClusterSecret(file: string, cwd: string): Promise<void> {
  const wanted = `Cannot write a cluster secret to "${file}"`;
  try {
    await using handle = await open(resolve(cwd, file), "wx", 0o600);
    await handle.writeFile(`${newClusterSecret()}\n`);
    // On the disk before anybody is told that it is there.
    await handle.sync();
  } catch (cause) {
    if (hasCode(cause, "EEXIST")) {
      throw new AppError("conflict", `${wanted}: the file exists, a new one needed`, {
        hint: `name another file, or use that one: exo serve --cluster-secret ${file}`,
        cause,
      });
    }
    const found = `${systemReason(cause)}, a folder that can be written needed`;
    throw new AppError("storage_failed", `${wanted}: ${found}`, {
      hint: "name a file in a folder that you may write to with --out",
      cause,
    });
  }
}

/** What a secret's file gives. */
export interface ReadSecret {
  /** The key of the private network. */
  readonly key: Uint8Array;
  /** Who else may read it. */
  readonly warnings: readonly string[];
}

/**
 * Reads the secret that every node of a cluster has.
 * @throws {AppError} `usage` when the file cannot be read or holds no secret.
 */
export async function readClusterSecret(file: string, cwd: string): Promise<ReadSecret> {
  const path = resolve(cwd, file);
  const wanted = `Cannot read the cluster secret "${file}"`;
  try {
    const { size, mode, isFolder } = await fileAt(path);
    if (isFolder) throw unusable(`${wanted}: it is a folder, a file needed`);
    if (size > FILE_BYTES_MAX) {
      throw unusable(`${wanted}: found ${size} bytes, ${FILE_BYTES_MAX} at most possible`);
    }
    const key = privateNetworkKey(await readFile(path, "utf8"), `the cluster secret "${file}"`);
    if (Deno.build.os === "windows" || (mode & OTHERS) === 0) return { key, warnings: [] };
    const warning =
      `others than its owner may read the cluster secret "${file}": chmod 600 ${file}`;
    return { key, warnings: [warning] };
  } catch (cause) {
    if (cause instanceof AppError) throw cause;
    const isMissing = hasCode(cause, "ENOENT");
    const found = isMissing ? "there is no such file" : systemReason(cause);
    throw new AppError("usage", `${wanted}: ${found}, one that exo can read needed`, {
      hint: isMissing
        ? `copy it from another node, or make the first: exo cluster secret new --out ${file}`
        : `let the user who runs the node read it: chmod 600 ${file}`,
      param: "clusterSecret",
      cause,
    });
  }
}

async function fileAt(path: string) {
  const found = await stat(path);
  return { size: found.size, mode: found.mode, isFolder: found.isDirectory() };
}

function unusable(message: string): AppError {
  const hint = "a secret is a file of one line: exo cluster secret new --out FILE makes one";
  return new AppError("usage", message, { hint, param: "clusterSecret" });
}

function hasCode(cause: unknown, code: string): boolean {
  return cause instanceof Error && "code" in cause && cause.code === code;
}
