import { join } from "node:path";
import { RING_BYTES_MAX, RING_BYTES_MIN } from "../core/ring.ts";
import type { RingFile } from "../core/prefill.ts";

/** Memory that looks like a folder, where a system has it. */
const SHARED_MEMORY = "/dev/shm";

/** Bytes of a ring: what a fast link carries while a step holds its process up. */
const RING_BYTES = 128 * 1024 * 1024;

/** The ring files of a node: in memory where that is possible, since they are read at once. */
export class PrefillRings {
  #folder: string | undefined;

  /** A place for a file that is not there yet; nobody but this user can look into its folder. */
  next(name: string, bytes: number = RING_BYTES): RingFile {
    this.#folder ??= makeFolder();
    const within = Math.min(Math.max(bytes, RING_BYTES_MIN), RING_BYTES_MAX);
    return { path: join(this.#folder, name), bytes: within };
  }

  /** Removes the file of a transfer that ended before its reader had opened it. */
  remove({ path }: RingFile): void {
    try {
      Deno.removeSync(path);
    } catch {
      // Its reader has it, or it was never made.
    }
  }

  /** Removes all files. */
  [Symbol.dispose](): void {
    if (this.#folder !== undefined) Deno.removeSync(this.#folder, { recursive: true });
    this.#folder = undefined;
  }
}

function makeFolder(): string {
  const prefix = "exo-prefill-";
  try {
    return Deno.makeTempDirSync({ dir: SHARED_MEMORY, prefix });
  } catch {
    return Deno.makeTempDirSync({ prefix });
  }
}
