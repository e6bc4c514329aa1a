import { z } from "zod";

/** Milliseconds since 1970-01-01T00:00:00Z, read by `node/clock.ts` and passed in. */
export const Millis = z.number().int().min(0);
export type Millis = z.infer<typeof Millis>;

/** Bytes of one kibibyte. */
export const KIB = 1024;

/** Bytes of one mebibyte. */
export const MIB = 1024 * KIB;

/** Bytes of one gibibyte. */
export const GIB = 1024 * MIB;

/** Bytes for people, in binary units with one decimal: `1.5 GiB`. */
export function formatBytes(bytes: number): string {
  // Half a tenth below the next unit rounds up to it: never 1024.0 of a unit.
  const reaches = (unit: number) => bytes >= unit - unit / KIB / 20;
  if (reaches(GIB)) return `${(bytes / GIB).toFixed(1)} GiB`;
  if (reaches(MIB)) return `${(bytes / MIB).toFixed(1)} MiB`;
  if (bytes >= KIB) return `${(bytes / KIB).toFixed(1)} KiB`;
  return `${bytes} B`;
}

const UNITS: ReadonlyMap<string, number> = new Map([
  ["", 1],
  ["b", 1],
  ["kb", 1e3],
  ["mb", 1e6],
  ["gb", 1e9],
  ["tb", 1e12],
  ["kib", KIB],
  ["mib", MIB],
  ["gib", GIB],
  ["tib", KIB * GIB],
]);

/**
 * An amount of memory as people write it, in whole bytes: `8GiB`, `1.5 TiB`, `8589934592`. `GB` is
 * decimal, `GiB` is binary. Undefined for what is none.
 */
export function parseBytes(text: string): number | undefined {
  const [, amount, unit = ""] = /^(\d+(?:\.\d+)?)\s*([a-z]*)$/i.exec(text.trim()) ?? [];
  const bytes = Math.round(Number(amount) * (UNITS.get(unit.toLowerCase()) ?? NaN));
  return Number.isSafeInteger(bytes) ? bytes : undefined;
}
