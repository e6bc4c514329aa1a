/** What a node keeps on its disk about itself: its identity, and the log that belongs to it. */
import { rename, stat } from "node:fs/promises";
import { join } from "node:path";
import { getLogger } from "@logtape/logtape";
import { AppError } from "../core/errors.ts";
import { DamagedLogError, EventLog, LOG_FILE, type Replayed } from "./event_log.ts";
import { type Identity, KEY_FILE, loadIdentity } from "./identity.ts";
import { systemReason } from "./system_error.ts";

const log = getLogger(["exo", "storage"]);

/** Damaged logs that a data directory keeps; with one more the node does not start. */
export const ASIDE_MAX = 100;

/** Identity and log of a node, opened. */
export interface Storage {
  readonly identity: Identity;
  readonly eventLog: EventLog;
  readonly left: Replayed;
}

/**
 * Opens what `dataDir` holds. A damaged log is set aside with the identity that it belonged to: the
 * node joins as a new one, since what the old one has promised is gone.
 * @throws {AppError} `conflict` when another node holds it, `storage_failed` when it cannot be read
 * or written, or was written by a newer exo.
 */
export async function openStorage(dataDir: string): Promise<Storage> {
  try {
    return await open(dataDir);
  } catch (cause) {
    if (!(cause instanceof DamagedLogError)) throw cause;
    const suffix = await setAside(dataDir);
    log.warn(
      "{reason}; it was set aside as {log}, and {identity} with it: this node joins as a new one, " +
        "and models that lie on its disk have to be added again",
      { reason: cause.message, log: `${LOG_FILE}${suffix}`, identity: `${KEY_FILE}${suffix}` },
    );
    return await open(dataDir);
  }
}

async function open(dataDir: string): Promise<Storage> {
  const identity = await loadIdentity(dataDir);
  const eventLog = EventLog.open(dataDir);
  try {
    return { identity, eventLog, left: eventLog.replay() };
  } catch (cause) {
    eventLog.close();
    throw cause;
  }
}

/** Renames the files, and says by what suffix. Nothing is ever deleted, or written over. */
async function setAside(dataDir: string): Promise<string> {
  // The identity goes first: it must never be found beside a log that is not its own.
  const files = [KEY_FILE, LOG_FILE, `${LOG_FILE}-wal`, `${LOG_FILE}-shm`];
  for (let nth = 1; nth <= ASIDE_MAX; nth++) {
    const suffix = `.aside-${nth}`;
    const targets = files.map((name) => join(dataDir, `${name}${suffix}`));
    if ((await Promise.all(targets.map(exists))).includes(true)) continue;
    for (const [at, name] of files.entries()) {
      await move(join(dataDir, name), targets[at] as string);
    }
    return suffix;
  }
  const found = `found ${ASIDE_MAX} that were set aside before`;
  throw new AppError("storage_failed", `Cannot set the damaged log aside: ${found}, fewer needed`, {
    hint: `look why the disk damages them, then delete those of ${dataDir} that end in .aside-N`,
  });
}

async function exists(path: string): Promise<boolean> {
  return await stat(path).then(() => true, () => false);
}

async function move(from: string, to: string): Promise<void> {
  if (!await exists(from)) return;
  try {
    await rename(from, to);
  } catch (cause) {
    const message = `Cannot set "${from}" aside: ${systemReason(cause)}, a writable folder needed`;
    throw new AppError("storage_failed", message, {
      hint: "make the data directory writable, or name another: exo serve --data-dir DIR",
      cause,
    });
  }
}
