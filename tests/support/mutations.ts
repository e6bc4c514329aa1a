import type { Random } from "./random.ts";

/** One leaf of plain data changed, an element left out or doubled; a text becomes one of `words`. */
export function mutatedValue(
  value: unknown,
  random: Random,
  words: readonly string[],
): unknown {
  if (Array.isArray(value)) {
    if (value.length === 0) return value;
    const at = random.below(value.length);
    const change = random.below(8);
    if (change === 0) return value.toSpliced(at, 1);
    if (change === 1) return value.toSpliced(at, 0, value[at]);
    if (change === 2) return value.toReversed();
    return value.with(at, mutatedValue(value[at], random, words));
  }
  if (typeof value === "object" && value !== null) {
    const keys = Object.keys(value).filter((key) => key !== "type");
    if (keys.length === 0) return value;
    const key = random.pick(keys);
    const { [key]: old, ...rest } = value as Record<string, unknown>;
    if (random.below(12) === 0) return rest;
    return { ...value, [key]: mutatedValue(old, random, words) };
  }
  if (typeof value === "number") {
    const other = [0, 1, -1, value + 1, value - 1, value * 2, 2 ** 31, 2 ** 40, 2 ** 53 - 1, 1e-9];
    return random.pick(other);
  }
  if (typeof value === "boolean") return !value;
  return random.pick(words);
}

/** What no schema asks for. */
const ODD: readonly unknown[] = [
  ...[null, true, 0, -1, 0.5, 1e308, 2 ** 53, "", "\u0000", "💥".repeat(50), "x".repeat(10_000)],
  ...[[], {}, [[[[]]]], { type: "Heartbeat" }],
];

/** Plain data with something odd in the place of one of its parts. */
export function brokenValue(value: unknown, random: Random): unknown {
  if (typeof value !== "object" || value === null || random.below(6) === 0) {
    return random.pick(ODD);
  }
  const keys = Object.keys(value);
  if (keys.length === 0) return random.pick(ODD);
  const key = random.pick(keys);
  const part = brokenValue((value as Record<string, unknown>)[key], random);
  if (Array.isArray(value)) return value.with(Number(key), part);
  return { ...value, [key]: part };
}

/** Other bytes: some bits flipped, a piece left out, doubled or made up, or cut off at the end. */
export function mutatedBytes(bytes: Uint8Array, random: Random): Uint8Array {
  return otherThan(bytes, () => changedBytes(bytes, random));
}

/** What `change` makes of `bytes`: it may flip a bit twice, cut nothing off, or draw the same word. */
function otherThan(bytes: Uint8Array, change: () => Uint8Array): Uint8Array {
  for (;;) {
    const changed = change();
    if (changed.length !== bytes.length || changed.some((byte, at) => byte !== bytes[at])) {
      return changed;
    }
  }
}

function changedBytes(bytes: Uint8Array, random: Random): Uint8Array {
  const at = random.below(bytes.length + 1);
  const [head, tail] = [bytes.subarray(0, at), bytes.subarray(at)];
  const count = random.below(16) + 1;
  switch (random.below(5)) {
    case 0: {
      const flipped = bytes.slice();
      for (let left = random.below(4) + 1; left > 0 && flipped.length > 0; left--) {
        const where = random.below(flipped.length);
        flipped[where] = (flipped[where] ?? 0) ^ (1 << random.below(8));
      }
      return flipped;
    }
    case 1:
      return head;
    case 2:
      return joined(head, tail.subarray(count));
    case 3:
      return joined(head, tail.subarray(0, count), tail);
    default:
      return joined(head, Uint8Array.from({ length: count }, () => random.below(256)), tail);
  }
}

function joined(...parts: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

/** Another message than `message`, as UTF-8 JSON or what is left of that. */
export function mutatedMessage(
  message: unknown,
  random: Random,
  words: readonly string[],
): Uint8Array {
  const bytes = bytesOf(message);
  return otherThan(bytes, () => changedMessage(message, bytes, { random, words }));
}

function changedMessage(
  message: unknown,
  bytes: Uint8Array,
  { random, words }: { random: Random; words: readonly string[] },
): Uint8Array {
  const way = random.below(4);
  if (way === 0) return bytesOf(brokenValue(message, random));
  if (way === 1) return changedBytes(bytes, random);
  let value = message;
  for (let left = random.below(3) + 1; left > 0; left--) value = mutatedValue(value, random, words);
  return bytesOf(value);
}

function bytesOf(value: unknown): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(value));
}
