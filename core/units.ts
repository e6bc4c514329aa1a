import { z } from "zod";

/** Milliseconds since 1970-01-01T00:00:00Z, read by `node/clock.ts` and passed in. */
export const Millis = z.number().int().min(0);
export type Millis = z.infer<typeof Millis>;

/** Bytes of one kibibyte, mebibyte and gibibyte. */
export const KIB = 1024;
export const MIB = 1024 * KIB;
export const GIB = 1024 * MIB;

/** Bytes for people, in binary units with one decimal: `1.5 GiB`. */
export function formatBytes(bytes: number): string {
  if (bytes >= GIB) return `${(bytes / GIB).toFixed(1)} GiB`;
  if (bytes >= MIB) return `${(bytes / MIB).toFixed(1)} MiB`;
  if (bytes >= KIB) return `${(bytes / KIB).toFixed(1)} KiB`;
  return `${bytes} B`;
}
