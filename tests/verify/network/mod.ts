/**
 * Mutated messages on every topic and protocol between nodes: bits flipped, pieces left out, wrong
 * types, huge numbers, other ids, what was true in another epoch. They are no messages, or say what
 * their sender has no say in; so nothing may crash, hang, or change.
 */
import { fuzzBulk } from "./bulk.ts";
import { fuzzControl } from "./control.ts";
import { fuzzFrames } from "./frames.ts";
import { fuzzGenerations } from "./generation.ts";
import { fuzzPrefill } from "./prefill.ts";
import type { FuzzedPart } from "./report.ts";
import { fuzzWire } from "./wire.ts";

/** The parts, and which share of the messages each gets: those over real connections cost most. */
const PARTS = {
  control: { share: 0.46, fuzz: fuzzControl },
  generation: { share: 0.15, fuzz: fuzzGenerations },
  frames: { share: 0.13, fuzz: fuzzFrames },
  prefill: { share: 0.1, fuzz: fuzzPrefill },
  bulk: { share: 0.1, fuzz: fuzzBulk },
  wire: { share: 0.06, fuzz: fuzzWire },
} as const;

/** Each topic and protocol gets at least this share of all messages. */
const LEAST_SHARE = 0.005;

/** Where nodes speak with each other. */
const ROOMS = ["net", "node"].map((room) => new URL(`../../../${room}/`, import.meta.url));

/** A part by its name. */
export interface NamedPart extends FuzzedPart {
  readonly name: string;
}

/** Says some `count` mutated messages, the same for a seed. */
export async function fuzzNetwork(seed: number, count: number): Promise<NamedPart[]> {
  const parts: NamedPart[] = [];
  for (const [name, { share, fuzz }] of Object.entries(PARTS)) {
    parts.push({ name, ...await fuzz(seed, Math.ceil(count * share)) });
  }
  return parts;
}

/**
 * Topics and protocols, of the sources or of these parts, on which less than `LEAST_SHARE` of
 * `count` messages was said, with how many there were.
 */
export async function seldomSaidOn(
  parts: readonly FuzzedPart[],
  count: number,
): Promise<string[]> {
  const said = new Map((await topicsAndProtocols()).map((name) => [name, 0]));
  for (const [name, here] of parts.flatMap(({ saidOn }) => [...saidOn])) {
    said.set(name, (said.get(name) ?? 0) + here);
  }
  return [...said].filter(([, n]) => n < count * LEAST_SHARE).map(([name, n]) => `${name}: ${n}`);
}

/** As they are written there: `exo/control/1`, `/exo/${namespace}/link/1`. */
async function topicsAndProtocols(): Promise<string[]> {
  const names = new Set<string>();
  for (const room of ROOMS) {
    for await (const { name, isFile } of Deno.readDir(room)) {
      if (!isFile || !name.endsWith(".ts")) continue;
      const source = await Deno.readTextFile(new URL(name, room));
      for (const [, found = ""] of source.matchAll(/["`](\/?exo\/[^"`\s]+\/\d+)["`]/g)) {
        names.add(found);
      }
    }
  }
  return [...names];
}
