/**
 * Mutated messages on every topic and protocol between nodes: bits flipped, pieces left out, wrong
 * types, huge numbers, other ids, what was true in another epoch. They are no messages, or say what
 * their sender has no say in; so nothing may crash, hang, or change.
 */
import { fuzzBulk } from "./bulk.ts";
import { fuzzControl } from "./control.ts";
import { fuzzFrames } from "./frames.ts";
import { fuzzGenerations } from "./generation.ts";
import type { FuzzedPart } from "./report.ts";
import { fuzzWire } from "./wire.ts";

/** The parts, and which share of the messages each gets: those over real connections cost most. */
const PARTS = {
  control: { share: 0.58, fuzz: fuzzControl },
  generation: { share: 0.15, fuzz: fuzzGenerations },
  frames: { share: 0.15, fuzz: fuzzFrames },
  bulk: { share: 0.1, fuzz: fuzzBulk },
  wire: { share: 0.02, fuzz: fuzzWire },
} as const;

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
