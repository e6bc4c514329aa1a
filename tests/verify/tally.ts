/** How many parts of a bar held, and how many did not. */
export interface Tally {
  readonly passed: number;
  readonly failed: number;
}

/** Tells people how a bar goes on, line by line. */
export type Say = (line: string) => void;
