/** What an issue asks of a figure: a limit of the ratio to the peer, or of our own figure. */
export interface Bar {
  readonly of: "ratio" | "ours";
  readonly limit: number;
  readonly better: "higher" | "lower";
}

/** A row of a report as its bar looks at it. */
export interface BarredRow {
  readonly unit: string;
  readonly ours: number | null;
  readonly ratio: number | null;
  /** Null where nothing is asked. */
  readonly asked: Bar | null;
}

/** Whether a row's bar is reached, undefined without one; a missing figure reaches none. */
export function isReached({ ours, ratio, asked }: BarredRow): boolean | undefined {
  if (!asked) return undefined;
  const figure = asked.of === "ratio" ? ratio : ours;
  if (figure === null) return false;
  return asked.better === "higher" ? figure >= asked.limit : figure <= asked.limit;
}

/** A row's bar as a table shows it. */
export function barCell(row: BarredRow): string {
  const { unit, asked } = row;
  if (asked === null) return "-";
  const limit = `${asked.better === "higher" ? "≥" : "≤"} ${asked.limit}`;
  return `${limit} ${asked.of === "ratio" ? "×" : unit}${isReached(row) ? "" : " (missed)"}`;
}
