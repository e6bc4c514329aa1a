import { AppError } from "../../core/errors.ts";
import type { KvLayer } from "../../ffi/mod.ts";
import type { KvBlock, SequenceCache } from "../decoder.ts";
import { doneBytes, type KvBytes, type KvShape, type PendingBytes } from "../prefill/kv_bytes.ts";
import {
  blockLayerBytes,
  headSections,
  type HeadsOfRanks,
  joinHeads,
  splitHeads,
} from "../prefill/kv_heads.ts";
import { groupBlock, groupCache } from "./cache_log.ts";
import type { Split } from "./group_decoder.ts";
import { ROUND_MS_MAX, type Rounds } from "./rounds.ts";
import { bodyOf } from "./step_frame.ts";

/** How a rank keeps keys and values: they travel where all do it alike. Undefined: they do not. */
export function kvName(kv: KvBytes | undefined): string | undefined {
  if (!kv) return undefined;
  const { layout, kvType, blockPositions } = kv.shape;
  return [layout, kvType, blockPositions].join("/");
}

/** What keys and values of a group are made of. */
export interface GroupKvParts {
  /** The first rank's. */
  readonly own: KvBytes;
  readonly rounds: Rounds;
  readonly split: Split;
  readonly ranks: number;
  /** Of the whole model, with all heads. */
  readonly layers: readonly KvLayer[];
}

/**
 * The keys and values of all ranks as bytes, on the first of them: as a decoder of the whole model
 * has them, so that they go from any layout to any other. Of a pipeline, a layer is one rank's; of a
 * tensor group each rank has some heads of it.
 */
export class GroupKvBytes implements KvBytes {
  readonly shape: KvShape;
  readonly #parts: GroupKvParts;

  constructor(parts: GroupKvParts) {
    this.#parts = parts;
    const layers = parts.layers.map(({ kvHeads, keyDim, valueDim }) => {
      return { kvHeads, keyDim, valueDim };
    });
    this.shape = { ...parts.own.shape, layers };
  }

  layerBytes(layer: number): number {
    return blockLayerBytes(this.shape, this.#layer(layer));
  }

  read(layer: number, blocks: readonly KvBlock[]): PendingBytes<Uint8Array<ArrayBuffer>> {
    const { own, rounds, split } = this.#parts;
    const held = blocks.map(groupBlock);
    const ours = this.#isOurs(layer)
      ? own.read(layer, held.map((block) => block.own)).collect()
      : undefined;
    if (ours && split === "pipeline") return doneBytes(ours);
    const shares = held.map(({ number }) => number);
    const serial = rounds.send({ inputs: [], move: { type: "read", layer, shares } });
    const bytes = blocks.length * this.layerBytes(layer);
    return new Round(rounds, serial, (theirs) => {
      const found = theirs.length + (ours?.length ?? 0);
      if (found !== bytes) throw notWhole(found, bytes);
      return ours ? joinHeads([ours, ...partsOf(theirs, ours.length)], this.#heads(layer)) : theirs;
    });
  }

  reserve(cache: SequenceCache, count: number): void {
    const { own, number } = groupCache(cache);
    this.#parts.own.reserve(own, count);
    this.#parts.rounds.log.add({ type: "reserve", cache: number, count });
  }

  write(layer: number, cache: SequenceCache, data: Uint8Array<ArrayBuffer>): PendingBytes<void> {
    const { own, rounds, split } = this.#parts;
    const target = groupCache(cache);
    const isOurs = this.#isOurs(layer);
    if (isOurs && split === "pipeline") return own.write(layer, target.own, data);
    const [ours, ...theirs] = isOurs ? splitHeads(data, this.#heads(layer)) : [];
    if (ours) own.write(layer, target.own, ours).collect();
    const count = data.length / this.layerBytes(layer);
    const move = { type: "write" as const, layer, cache: target.number, count };
    const serial = rounds.send({ inputs: [], move }, ours ? joined(theirs) : data);
    return new Round(rounds, serial, ({ length: left }) => {
      if (left > 0) throw notWhole(data.length - left, data.length);
    });
  }

  advance(cache: SequenceCache, count: number): void {
    const { own, number } = groupCache(cache);
    this.#parts.own.advance(own, count);
    this.#parts.rounds.log.add({ type: "advance", cache: number, count });
  }

  /** Whether the first rank has a part of a layer: its own are the first ones. */
  #isOurs(layer: number): boolean {
    return layer < this.#parts.own.shape.layers.length;
  }

  #heads(layer: number): HeadsOfRanks {
    const shape = this.#layer(layer);
    const sections = headSections(this.shape.kvType, shape);
    return {
      sectionBytes: sections.map((bytes) => bytes * shape.kvHeads),
      ranks: this.#parts.ranks,
    };
  }

  #layer(layer: number): KvLayer {
    const found = this.shape.layers[layer];
    if (found) return found;
    throw new RangeError(`layer ${layer} of a model of ${this.shape.layers.length}`);
  }
}

/** Bytes on their way round. */
class Round<T> implements PendingBytes<T> {
  readonly #rounds: Rounds;
  readonly #serial: number;
  readonly #made: (bytes: Uint8Array<ArrayBuffer>) => T;
  readonly #time: { readonly sentAt: number; readonly msMax: number };

  constructor(rounds: Rounds, serial: number, made: (bytes: Uint8Array<ArrayBuffer>) => T) {
    [this.#rounds, this.#serial, this.#made] = [rounds, serial, made];
    this.#time = { sentAt: rounds.now(), msMax: ROUND_MS_MAX };
  }

  wait(ms: number): boolean {
    return this.#rounds.wait(this.#serial, ms, this.#time);
  }

  collect(): T {
    const { header: { failure }, rows } = this.#rounds.take(this.#serial);
    if (failure) throw AppError.from(failure.error);
    return this.#made(bodyOf(rows));
  }

  [Symbol.dispose](): void {
    this.#rounds.drop(this.#serial);
  }
}

function partsOf(bytes: Uint8Array<ArrayBuffer>, partBytes: number): Uint8Array<ArrayBuffer>[] {
  return Array.from({ length: bytes.length / partBytes }, (_, i) => {
    return bytes.subarray(i * partBytes, (i + 1) * partBytes);
  });
}

function joined(parts: readonly Uint8Array<ArrayBuffer>[]): Uint8Array<ArrayBuffer> {
  const all = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

function notWhole(found: number, needed: number): AppError {
  // Not `internal`: nothing that was computed is in doubt.
  return new AppError(
    "invalid_request",
    `Cannot pass keys and values on: the ranks have or take ${found} bytes, ${needed} needed`,
    { hint: "run the same version of exo on nodes of the same kind" },
  );
}
