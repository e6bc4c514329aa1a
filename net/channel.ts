/**
 * Messages in order from one writer to one reader in the same process. `push` resolves when the
 * reader is less than `capacity` messages behind.
 */
export class Channel<T> implements AsyncIterable<T> {
  readonly #queue: T[] = [];
  readonly #capacity: number;
  #ended = false;
  #wakeReader: (() => void) | undefined;
  #wakeWriters: (() => void)[] = [];

  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  /** Messages that wait for the reader. */
  get size(): number {
    return this.#queue.length;
  }

  get ended(): boolean {
    return this.#ended;
  }

  /** Adds a message; false when the channel has ended and it was dropped. */
  async push(message: T): Promise<boolean> {
    while (!this.#ended && this.#queue.length >= this.#capacity) {
      await new Promise<void>((resolve) => this.#wakeWriters.push(resolve));
    }
    return this.offer(message);
  }

  /** Adds a message whatever the capacity; false when the channel has ended. */
  offer(message: T): boolean {
    if (this.#ended) return false;
    this.#queue.push(message);
    this.#wakeReader?.();
    return true;
  }

  /** No more messages; those that wait are still read. */
  end(): void {
    this.#ended = true;
    this.#wakeReader?.();
    this.#releaseWriters();
  }

  /** Ends and forgets what waits. */
  clear(): void {
    this.#queue.length = 0;
    this.end();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T> {
    while (true) {
      const next = this.#queue.shift();
      if (next !== undefined) {
        this.#releaseWriters();
        yield next;
      } else if (this.#ended) {
        return;
      } else {
        await new Promise<void>((resolve) => this.#wakeReader = resolve);
        this.#wakeReader = undefined;
      }
    }
  }

  #releaseWriters(): void {
    const writers = this.#wakeWriters;
    this.#wakeWriters = [];
    for (const wake of writers) wake();
  }
}
