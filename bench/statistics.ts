/** Three points of a distribution: its middle, and its slow end. */
export interface Percentiles {
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
}

/** The middle value, or the mean of the two in the middle; null of nothing. */
export function median(values: readonly number[]): number | null {
  return percentile(values, 50);
}

/**
 * The value below which `percent` of the values lie, between two neighbours by their distance; null
 * of nothing. Source: Hyndman and Fan 1996, definition 7, as NumPy has it.
 */
export function percentile(values: readonly number[], percent: number): number | null {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (sorted.length - 1) * percent / 100;
  const below = sorted[Math.floor(at)];
  const above = sorted[Math.ceil(at)];
  if (below === undefined || above === undefined) return null;
  const part = at - Math.floor(at);
  // As a weighted sum it may round past its neighbours; as a step from one it cannot.
  return Math.min(above, below + (above - below) * part);
}

/** The three percentiles that reports show; null of nothing. */
export function percentiles(values: readonly number[]): Percentiles | null {
  const p50 = percentile(values, 50);
  const p90 = percentile(values, 90);
  const p99 = percentile(values, 99);
  return p50 === null || p90 === null || p99 === null ? null : { p50, p90, p99 };
}

/** The sum over the count; null of nothing. */
export function mean(values: readonly number[]): number | null {
  return values.length === 0 ? null : values.reduce((a, b) => a + b, 0) / values.length;
}
