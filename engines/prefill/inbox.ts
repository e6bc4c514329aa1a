import { AppError } from "../../core/errors.ts";
import { decodePrefix, FrameDecoder } from "../../core/frame_codec.ts";
import { FRAME_PREFIX_BYTES } from "../../core/frames.ts";
import { shortError } from "../../core/short_text.ts";
import {
  differenceOf,
  type PrefillEnd,
  PrefillRecord,
  type PrefillRequest,
} from "../../core/prefill.ts";
import type { Ring } from "../../core/ring.ts";
import type { SequenceCache } from "../decoder.ts";
import type { BytesUnderWay } from "./bytes_under_way.ts";
import type { KvBytes, PendingBytes } from "./kv_bytes.ts";
import { RingReader } from "./ring_file.ts";

/** What an inbox writes into. */
export interface InboxOptions {
  readonly kv: KvBytes;
  readonly request: PrefillRequest;
  /** Holds what comes before `startPos`; the inbox takes it over. */
  readonly cache: SequenceCache;
  /** Of all inboxes of the engine. */
  readonly underWay: BytesUnderWay;
  /** Whether so many blocks more may be held. */
  readonly fits: (blocks: number) => boolean;
}

/** Keys and values that another instance computes, on their way into a sequence's cache. */
export class PrefillInbox implements Disposable {
  readonly cache: SequenceCache;
  readonly #options: InboxOptions;
  #reader: RingReader | undefined;
  #hasHeader = false;
  /** The layer that comes next, of how many blocks. */
  #layer = 0;
  #blocks = 0;
  /** Layers that other ranks have yet to take, the oldest first. */
  readonly #writes: { readonly bytes: number; readonly pending: PendingBytes<void> }[] = [];
  #end: PrefillEnd | undefined;
  #toldBytes = 0;

  constructor(options: InboxOptions) {
    this.#options = options;
    this.cache = options.cache;
  }

  /** So many bytes are there by now; `ring` says where, before the first. */
  arrived(bytes: number, ring: Ring | undefined, end: PrefillEnd | undefined): void {
    if (!this.#reader && ring) this.#reader = new RingReader(ring);
    this.#reader?.arrived(bytes);
    this.#end ??= end;
  }

  /**
   * Whether `pump` would do anything, if only throw what is wrong with the bytes, or there is
   * something to wait for.
   */
  get hasWork(): boolean {
    try {
      return this.#end !== undefined || this.#writes.length > 0 ||
        this.#nextBytes() !== undefined;
    } catch {
      return true;
    }
  }

  /** Waits for other ranks, `ms` at most; false when there is nothing to wait for. */
  wait(ms: number): boolean {
    const [first] = this.#writes;
    first?.pending.wait(ms);
    return first !== undefined;
  }

  /** Bytes taken since this was asked last, if any: there is room for so many more. */
  takeNews(): number | undefined {
    const bytes = this.#reader?.read ?? 0;
    if (bytes === this.#toldBytes) return undefined;
    return this.#toldBytes = bytes;
  }

  /**
   * Writes what has come, up to `bytesMax` of it, a record at least; true once all is there.
   * @throws what ends it early: the cache has whole chunks then, and goes on from there.
   */
  pump(bytesMax: number): boolean {
    let taken = 0;
    this.#settle();
    for (let next = this.#nextBytes(); next !== undefined; next = this.#nextBytes()) {
      if (taken > 0 && taken + next > bytesMax) return false;
      if (!this.#mayTake(next)) return false;
      taken += next;
      if (this.#take(next)) return true;
      this.#settle();
    }
    if (!this.#end) return false;
    if (this.#end.error) throw AppError.from(this.#end.error);
    throw new AppError("node_unreachable", "A remote prefill ended before its last word");
  }

  /** Whether there is nothing to wait for before the next record. */
  #mayTake(bytes: number): boolean {
    // Blocks count once all ranks have all of them: what cannot be had leaves them as they are.
    if (this.#isChunkRead && this.#writes.length > 0) return false;
    return this.#options.underWay.hasRoom(bytes);
  }

  /** Whether all layers of the blocks that come were read. */
  get #isChunkRead(): boolean {
    return this.#blocks > 0 && this.#layer === 0;
  }

  /** Hears what became of what was written. @throws {AppError} where a rank could not take it. */
  #settle(): void {
    for (let [first] = this.#writes; first?.pending.wait(0); [first] = this.#writes) {
      this.#writes.shift();
      this.#options.underWay.arrived(first.bytes);
      first.pending.collect();
    }
    if (!this.#isChunkRead || this.#writes.length > 0) return;
    this.#options.kv.advance(this.cache, this.#blocks);
    this.#blocks = 0;
  }

  [Symbol.dispose](): void {
    for (const { bytes, pending } of this.#writes.splice(0)) {
      pending[Symbol.dispose]();
      this.#options.underWay.arrived(bytes);
    }
    this.#reader?.[Symbol.dispose]();
    this.#reader = undefined;
    this.cache[Symbol.dispose]();
  }

  /** Bytes of the next record, once all of it is there. */
  #nextBytes(): number | undefined {
    const reader = this.#reader;
    if (!reader || reader.available < FRAME_PREFIX_BYTES) return undefined;
    const prefix = new Uint8Array(FRAME_PREFIX_BYTES);
    reader.peek(prefix);
    const bytes = decodePrefix(prefix);
    return reader.available >= bytes ? bytes : undefined;
  }

  #take(bytes: number): boolean {
    const [frame] = new FrameDecoder().push(this.#reader?.take(bytes) ?? new Uint8Array());
    const record = PrefillRecord.parse(frame?.header);
    switch (record.type) {
      case "Header":
        this.#header(record);
        return false;
      case "Blocks":
        this.#write(record, frame?.body as Uint8Array<ArrayBuffer>);
        return false;
      case "Done":
        if (this.cache.offset === this.#options.request.stopPos) return true;
        throw unexpected(`it is done at position ${this.cache.offset}`);
      case "Failed":
        throw AppError.from(shortError(record.error));
      default:
        return record satisfies never;
    }
  }

  #header(header: Extract<PrefillRecord, { type: "Header" }>): void {
    const { fingerprint, startPos, stopPos } = this.#options.request;
    const difference = differenceOf(fingerprint, header.fingerprint);
    if (difference) throw unexpected(`its model is another: ${difference}`);
    const [from, to] = header.positions;
    if (from !== startPos || to !== stopPos) throw unexpected(`it has positions ${from} to ${to}`);
    const [first, end] = header.layers;
    if (first !== 0 || end !== fingerprint.layers.length || header.heads) {
      const heads = header.heads ? `, heads ${header.heads.join(" to ")}` : "";
      throw unexpected(`it has layers ${first} to ${end}${heads} alone, all needed`);
    }
    this.#hasHeader = true;
  }

  #write(
    { layer, first, count }: Extract<PrefillRecord, { type: "Blocks" }>,
    data: Uint8Array<ArrayBuffer>,
  ): void {
    const { kv, request, cache, fits } = this.#options;
    const { blockPositions, layers } = kv.shape;
    const isNext = this.#hasHeader && layer === this.#layer &&
      first * blockPositions === cache.offset && (layer === 0 || count === this.#blocks);
    const end = (first + count) * blockPositions;
    if (!isNext || count === 0 || end > request.stopPos) {
      throw unexpected(
        `layer ${layer} of blocks ${first} to ${first + count} is not what comes next`,
      );
    }
    const bytes = count * kv.layerBytes(layer);
    if (data.length !== bytes) {
      const found = `${count} blocks of layer ${layer} have ${data.length} bytes`;
      throw unexpected(`${found}, ${bytes} needed`);
    }
    if (layer === 0) {
      if (!fits(count)) throw new AppError("out_of_memory", NO_ROOM);
      kv.reserve(cache, count);
      this.#blocks = count;
    }
    this.#writes.push({ bytes: data.length, pending: kv.write(layer, cache, data) });
    this.#options.underWay.setOut(data.length);
    this.#layer = (layer + 1) % layers.length;
  }
}

const NO_ROOM = "Cannot take more of a remote prefill: there is no memory for its keys and values";

function unexpected(found: string): AppError {
  return new AppError("invalid_request", `Cannot use a remote prefill: ${found}`, {
    hint: "run the same version of exo and the same model files on both nodes",
  });
}
