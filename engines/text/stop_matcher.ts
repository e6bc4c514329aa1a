/** What a {@linkcode StopMatcher} lets through. */
export interface Matched {
  readonly text: string;
  /** A stop string was found; the text ends before it, and the rest is dropped. */
  readonly isStopped: boolean;
}

/**
 * Looks for stop strings in text that comes in pieces. Text that could begin one is held back until
 * it is clear that it does not, so that no part of a stop string is ever let through. The stop that
 * ends first counts, of those the longest: the same whatever the pieces.
 */
export class StopMatcher {
  readonly #stops: readonly string[];
  #held = "";

  constructor(stops: readonly string[]) {
    this.#stops = stops.filter((stop) => stop !== "");
  }

  /** Takes the next piece of text. */
  add(piece: string): Matched {
    const text = this.#held + piece;
    const at = this.#firstStop(text);
    if (at !== undefined) {
      this.#held = "";
      return { text: text.slice(0, at), isStopped: true };
    }
    const free = text.length - this.#heldLength(text);
    this.#held = text.slice(free);
    return { text: text.slice(0, free), isStopped: false };
  }

  /** What was held back, once no more text comes. */
  finish(): string {
    const text = this.#held;
    this.#held = "";
    return text;
  }

  /** Where the stop that ends first begins. */
  #firstStop(text: string): number | undefined {
    const found = this.#stops
      .map((stop) => ({ start: text.indexOf(stop), end: text.indexOf(stop) + stop.length }))
      .filter(({ start }) => start >= 0)
      .sort((a, b) => a.end - b.end || a.start - b.start);
    return found[0]?.start;
  }

  /** Length of the longest end of `text` that begins a stop string. */
  #heldLength(text: string): number {
    let longest = 0;
    for (const stop of this.#stops) {
      for (let n = Math.min(stop.length - 1, text.length); n > longest; n--) {
        if (text.endsWith(stop.slice(0, n))) longest = n;
      }
    }
    return longest;
  }
}
