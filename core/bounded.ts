/**
 * Schemas of what others send. `z.array` looks at every element, and has an issue for each that is
 * wrong, before it compares the number of them with its limit: megabytes of nonsense would hold a
 * node up for a minute. These count first.
 */
import { z } from "zod";

/** An array of `min` to `max` elements: one that is longer is one issue, whatever is in it. */
export function boundedArray<T extends z.ZodType>(element: T, max: number, min = 0) {
  return z.array(z.unknown()).min(min).max(max).pipe(z.array(element));
}

/** A record of `max` entries at most. */
export function boundedRecord<K extends z.core.$ZodRecordKey, T extends z.ZodType>(
  key: K,
  value: T,
  max: number,
) {
  const isShort = (record: object) => Object.keys(record).length <= max;
  const unread = z.record(z.string(), z.unknown());
  return unread.refine(isShort, `${max} entries at most needed`).pipe(z.record(key, value));
}

/** Whole numbers from 0 to `highest`, `max` of them at most: whatever is wrong is one issue. */
export function boundedCounts(highest: number, max: number) {
  const isCount = (value: unknown) => Number.isInteger(value) && between(value as number, highest);
  const areCounts = (values: unknown) =>
    Array.isArray(values) && values.length <= max && values.every(isCount);
  return z.custom<number[]>(areCounts, `${max} whole numbers up to ${highest} at most needed`);
}

function between(value: number, highest: number): boolean {
  return value >= 0 && value <= highest;
}
