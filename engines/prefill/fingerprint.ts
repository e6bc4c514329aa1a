import { createHash } from "node:crypto";
import { join } from "node:path";
import { weightFileNames } from "../mlx/folder_checkpoint.ts";

/** Places of a file that are looked at, and bytes at each. */
const SAMPLES = 64;
const SAMPLE_BYTES = 16 * 1024;

/**
 * Tells whether two machines have the same model: a hash of each file's length and of samples from
 * its beginning to its end. Of a terabyte of weights it reads a few megabytes.
 *
 * All files count that weights are read from, those of other ranks' layers included: a node that
 * adds a model needs all that its index names (`node/model_files.ts`), whichever part it gets.
 */
export function weightsFingerprint(modelPath: string): string {
  const hash = createHash("sha256");
  const isFolder = Deno.statSync(modelPath).isDirectory;
  const names = isFolder ? filesOf(modelPath) : [""];
  for (const name of names) {
    hash.update(`${name}\0`);
    sample(isFolder ? join(modelPath, name) : modelPath, (bytes) => hash.update(bytes));
  }
  return hash.digest("hex").slice(0, 32);
}

/** What says how tokens become keys and values; what lies beside it may differ. */
function filesOf(folder: string): string[] {
  return ["config.json", ...weightFileNames(folder)].sort();
}

function sample(path: string, take: (bytes: Uint8Array) => void): void {
  using file = Deno.openSync(path, { read: true });
  const { size } = file.statSync();
  take(new TextEncoder().encode(`${size}\0`));
  const buffer = new Uint8Array(SAMPLE_BYTES);
  const last = Math.max(0, size - SAMPLE_BYTES);
  const places = new Set(
    Array.from({ length: SAMPLES }, (_, i) => Math.floor(last * i / (SAMPLES - 1))),
  );
  for (const place of places) {
    file.seekSync(place, Deno.SeekMode.Start);
    const count = file.readSync(buffer) ?? 0;
    take(buffer.subarray(0, count));
  }
}
