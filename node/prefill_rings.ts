import { statfsSync } from "node:fs";
import { join } from "node:path";
import type { RingFile } from "../core/prefill.ts";
import { RING_BYTES_MIN } from "../core/ring.ts";
import { MIB } from "../core/units.ts";
import { makeProcessFolder, sweepFolders, tempFolder } from "./process_folders.ts";

/** Memory that looks like a folder, where a system has it. */
const SHARED_MEMORY = "/dev/shm";

/** Bytes of a ring: what a fast link carries while a step holds its process up. */
export const RING_BYTES = 128 * MIB;

/** The share of what is free that a ring may take: there may be others, and other programs. */
const FREE_SHARE = 1 / 2;

/** Where rings may lie. */
export interface RingPlaces {
  /** Folders, the best one first; the last one is taken where none has room. */
  readonly dirs: readonly string[];
  /** Bytes that this user may write to a folder. */
  readonly freeBytes: (dir: string) => number;
}

/**
 * The ring files of a node: in memory where there is room, since they are read at once. A container
 * may have as little as 64 MiB of such memory.
 */
export class PrefillRings {
  readonly #places: RingPlaces;
  /** By the place where they lie. */
  readonly #folders = new Map<string, string>();
  /** Bytes of those that are not full yet, maybe. */
  readonly #promised = new Map<RingFile, string>();

  constructor(places: RingPlaces = { dirs: [SHARED_MEMORY, tempFolder()], freeBytes }) {
    this.#places = places;
    for (const dir of new Set(places.dirs)) sweepFolders("prefill", dir);
  }

  /** A place for a file that is not there yet; nobody but this user can look into its folder. */
  next(name: string): RingFile {
    const { dir, bytes } = this.#choose();
    const folder = this.#folders.get(dir) ?? makeProcessFolder("prefill", dir);
    this.#folders.set(dir, folder);
    const ring = { path: join(folder, name), bytes };
    this.#promised.set(ring, dir);
    return ring;
  }

  /** Its reader has its file, or soon will: it is gone when the reader is done. */
  release(ring: RingFile): void {
    this.#promised.delete(ring);
  }

  /** Removes the file of a transfer that ended before its reader had opened it. */
  remove(ring: RingFile): void {
    this.release(ring);
    try {
      Deno.removeSync(ring.path);
    } catch {
      // Its reader has it, or it was never made.
    }
  }

  /** Removes all files. */
  [Symbol.dispose](): void {
    for (const folder of this.#folders.values()) Deno.removeSync(folder, { recursive: true });
    this.#folders.clear();
  }

  #choose(): { dir: string; bytes: number } {
    const { dirs } = this.#places;
    for (const dir of dirs) {
      const bytes = Math.floor(Math.min(RING_BYTES, this.#freeIn(dir) * FREE_SHARE));
      if (bytes >= RING_BYTES_MIN) return { dir, bytes };
    }
    return { dir: dirs.at(-1) as string, bytes: RING_BYTES_MIN };
  }

  /** What is free, less what rings that were given out may still take. */
  #freeIn(dir: string): number {
    const promised = [...this.#promised].reduce(
      (sum, [{ bytes }, place]) => place === dir ? sum + bytes : sum,
      0,
    );
    return this.#places.freeBytes(dir) - promised;
  }
}

/** 0 where there is no such folder. */
function freeBytes(dir: string): number {
  try {
    const { bavail, bsize } = statfsSync(dir);
    return bavail * bsize;
  } catch {
    return 0;
  }
}
