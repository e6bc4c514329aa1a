import { join } from "node:path";
import { AppError } from "../core/errors.ts";
import type { NodeId } from "../core/ids.ts";
import { newIdentity, nodeIdOf } from "../net/identity.ts";
import { systemReason } from "./system_error.ts";

/** File of the node's private key, readable by its owner alone. */
export const KEY_FILE = "identity.key";

/** A node's private key, in libp2p's protobuf form, and the id that it proves. */
export interface Identity {
  readonly key: Uint8Array;
  readonly nodeId: NodeId;
}

/**
 * The identity that `dataDir` holds; made at the first start.
 * @throws {AppError} `storage_failed` when the file is not a key, or cannot be read or written.
 */
export async function loadIdentity(dataDir: string): Promise<Identity> {
  const path = join(dataDir, KEY_FILE);
  const stored = await readKey(path);
  if (!stored) {
    const key = await newIdentity();
    await writeKey(path, key);
    return { key, nodeId: nodeIdOf(key) };
  }
  try {
    return { key: stored, nodeId: nodeIdOf(stored) };
  } catch (cause) {
    throw new AppError(
      "storage_failed",
      `Cannot read the node's identity in "${path}": found no key, one needed`,
      {
        hint: `move ${path} away; the node then takes a new identity`,
        cause,
      },
    );
  }
}

async function readKey(path: string): Promise<Uint8Array | undefined> {
  try {
    return await Deno.readFile(path);
  } catch (cause) {
    if (cause instanceof Deno.errors.NotFound) return undefined;
    const message = `Cannot read the node's identity in "${path}": ${systemReason(cause)}`;
    throw new AppError("storage_failed", message, {
      hint: cause instanceof Deno.errors.PermissionDenied
        ? `let the user who runs the node read it: chmod 600 ${path}`
        : `move ${path} away; the node then takes a new identity`,
      cause,
    });
  }
}

/** Written beside and renamed, so that a crash never leaves half a key. */
async function writeKey(path: string, key: Uint8Array): Promise<void> {
  const fresh = `${path}.new`;
  try {
    await Deno.writeFile(fresh, key, { mode: 0o600 });
    await Deno.rename(fresh, path);
  } catch (cause) {
    const found = systemReason(cause);
    const isFull = /no space/.test(found);
    const needed = isFull ? "some room needed" : "a folder that can be written needed";
    const message = `Cannot write the node's identity to "${path}": ${found}, ${needed}`;
    throw new AppError("storage_failed", message, {
      hint: isFull
        ? "free space on that disk, or name a folder on another: exo serve --data-dir DIR"
        : "name a folder that you may write to: exo serve --data-dir DIR",
      cause,
    });
  }
}
