/**
 * Messages in order from one writer to one reader in the same process. `push` resolves when the
 * reader is less than `capacity` messages behind.
 */
export class Channel<T> implements AsyncIterable<T> {
  readonly #queue: T[] = [];
  readonly #capacity: number;
  #ended = false;
  #wakeReader: (() => void) | undefined;
  /** Messages for which there is no room yet, with what to tell their writers. */
  #writers: { message: T; settle: (taken: boolean) => void }[] = [];

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
  push(message: T): Promise<boolean> {
    const waits = !this.#ended && this.#queue.length >= this.#capacity;
    if (!waits) return Promise.resolve(this.offer(message));
    return new Promise((settle) => this.#writers.push({ message, settle }));
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
    for (const { settle } of this.#writers.splice(0)) settle(false);
  }

  /** Ends with this message in place of all that wait. */
  endWith(message: T): void {
    this.#queue.length = 0;
    this.offer(message);
    this.end();
  }

  /** Ends and forgets what waits. */
  clear(): void {
    this.#queue.length = 0;
    this.end();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T> {
    while (true) {
      if (this.#queue.length > 0) {
        const next = this.#queue.shift() as T;
        this.#admitWriter();
        yield next;
      } else if (this.#ended) {
        return;
      } else {
        await new Promise<void>((resolve) => this.#wakeReader = resolve);
        this.#wakeReader = undefined;
      }
    }
  }

  /** Moves the longest waiting message up in the same step, so that no later one overtakes it. */
  #admitWriter(): void {
    if (this.#queue.length >= this.#capacity) return;
    const writer = this.#writers.shift();
    if (!writer) return;
    this.#queue.push(writer.message);
    writer.settle(true);
  }
}
