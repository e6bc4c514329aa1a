/** What happens when: virtual time in ms from 0, and a heap of things that are due. */
export class Schedule {
  now = 0;
  #count = 0;
  readonly #heap: Entry[] = [];

  /** Things that wait. */
  get size(): number {
    return this.#heap.length;
  }

  /** Runs `action` after `delayMs`; equal times go in the order in which they were asked for. */
  after(delayMs: number, action: () => void): void {
    this.at(this.now + Math.max(0, Math.round(delayMs)), action);
  }

  /** Runs `action` at `time`. */
  at(time: number, action: () => void): void {
    const entry = { time: Math.max(time, this.now), order: this.#count++, action };
    const heap = this.#heap;
    let at = heap.push(entry) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (isBefore(heap[parent] as Entry, entry)) break;
      heap[at] = heap[parent] as Entry;
      at = parent;
    }
    heap[at] = entry;
  }

  /** Does the next thing; false when there is none up to `limit`, which it then is. */
  step(limit: number): boolean {
    const next = this.#heap[0];
    if (!next || next.time > limit) {
      this.now = Math.max(this.now, limit);
      return false;
    }
    this.#pop();
    this.now = next.time;
    next.action();
    return true;
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop() as Entry;
    if (heap.length === 0) return;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      const other = heap[child + 1];
      if (other && isBefore(other, heap[child] as Entry)) child++;
      if (isBefore(last, heap[child] as Entry)) break;
      heap[at] = heap[child] as Entry;
      at = child;
    }
    heap[at] = last;
  }
}

interface Entry {
  readonly time: number;
  readonly order: number;
  readonly action: () => void;
}

function isBefore(a: Entry, b: Entry): boolean {
  return a.time !== b.time ? a.time < b.time : a.order < b.order;
}
