/** What was read is not what it should be; the message says what was found. */
export class Malformed extends Error {
  override readonly name = "Malformed";
}

/** Numbers that came from elsewhere, one after the other. */
export class NumberReader {
  readonly #numbers: Float64Array<ArrayBuffer>;
  #at = 0;

  constructor(numbers: Float64Array<ArrayBuffer>) {
    this.#numbers = numbers;
  }

  /** Any number. @throws {Malformed} where none is left. */
  number(): number {
    const number = this.#numbers[this.#at];
    if (number === undefined) throw new Malformed(`${this.#at} numbers`);
    this.#at++;
    return number;
  }

  /** A whole number from 0 to `max`. @throws {Malformed} for any other. */
  count(max = Number.MAX_SAFE_INTEGER): number {
    const number = this.number();
    if (Number.isSafeInteger(number) && number >= 0 && number <= max) return number;
    throw new Malformed(`${number} as number ${this.#at}`);
  }

  /** The same, or `other`. */
  countOr(other: number, max?: number): number {
    if (this.#numbers[this.#at] !== other) return this.count(max);
    this.#at++;
    return other;
  }

  /** So many of what `read` reads, each of which is one number at least. */
  times<T>(count: number, read: () => T): T[] {
    this.#require(count);
    const all: T[] = [];
    for (let i = 0; i < count; i++) all.push(read());
    return all;
  }

  /** A copy of so many numbers. */
  numbers(count: number): Float64Array<ArrayBuffer> {
    this.#require(count);
    this.#at += count;
    return this.#numbers.slice(this.#at - count, this.#at);
  }

  /** @throws {Malformed} where numbers are left. */
  end(): void {
    const left = this.#numbers.length - this.#at;
    if (left > 0) throw new Malformed(`${left} numbers too many`);
  }

  /** Before anything is made of what a number says of those behind it. */
  #require(count: number): void {
    const left = this.#numbers.length - this.#at;
    if (count > left) throw new Malformed(`${left} numbers where ${count} were named`);
  }
}
