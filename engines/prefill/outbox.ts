import { assert, type ErrorInfo } from "../../core/errors.ts";
import { encodeFrame } from "../../core/frame_codec.ts";
import type { KvFingerprint, PrefillEnd, PrefillRecord } from "../../core/prefill.ts";
import type { Ring } from "../../core/ring.ts";
import type { KvBlock } from "../decoder.ts";
import type { BytesUnderWay } from "./bytes_under_way.ts";
import type { KvBytes, PendingBytes } from "./kv_bytes.ts";
import { RingWriter } from "./ring_file.ts";

/** Most bytes of a record's blocks: a few fit into the smallest ring. */
const BLOCKS_BYTES_MAX = 2 * 1024 * 1024;

/** A frame's header beside its blocks takes less. */
const HEADER_BYTES_MAX = 256;

/** Blocks of a chunk, of which some layers have been asked for. */
interface Chunk {
  readonly first: number;
  readonly blocks: readonly KvBlock[];
  asked: number;
}

/** A layer of a chunk's blocks that was asked for. */
interface AskedLayer {
  readonly chunk: Chunk;
  readonly layer: number;
  readonly bytes: number;
  readonly pending: PendingBytes<Uint8Array<ArrayBuffer>>;
}

/** What an outbox sends, and where. */
export interface OutboxOptions {
  readonly kv: KvBytes;
  readonly fingerprint: KvFingerprint;
  readonly ring: Ring;
  /** Of all outboxes of the engine. */
  readonly underWay: BytesUnderWay;
  readonly startPos: number;
  readonly stopPos: number;
}

/**
 * Keys and values on their way out, chunk by chunk and layer by layer, as there is room in the ring.
 * It has shares of the blocks until they are written, whatever becomes of the sequence meanwhile.
 */
export class PrefillOutbox implements Disposable {
  readonly #options: OutboxOptions;
  readonly #writer: RingWriter;
  readonly #chunks: Chunk[] = [];
  /** In the order in which they are written. */
  readonly #asked: AskedLayer[] = [];
  /** The last word, as a frame. */
  #last: Uint8Array | undefined;
  readonly #blocksAtOnce: number;
  /** Number of the next block that it is to be given. */
  #next: number;
  #isEnded = false;
  #toldBytes = 0;
  #hasToldEnd = false;

  constructor(options: OutboxOptions) {
    const { kv, fingerprint, ring, startPos, stopPos } = options;
    this.#options = options;
    this.#next = startPos / kv.shape.blockPositions;
    const largest = Math.max(...fingerprint.layers.map((_, layer) => kv.layerBytes(layer)));
    this.#blocksAtOnce = Math.max(1, Math.floor(BLOCKS_BYTES_MAX / largest));
    this.#writer = new RingWriter(ring);
    const layers: [number, number] = [0, fingerprint.layers.length];
    try {
      this.#write({ type: "Header", fingerprint, positions: [startPos, stopPos], layers });
    } catch (cause) {
      this[Symbol.dispose]();
      throw cause;
    }
  }

  /** Whether all is written that was to be, and was told. */
  get isDone(): boolean {
    return this.#hasToldEnd;
  }

  /** Takes shares of the blocks that a sequence has filled by now and that were not taken before. */
  add(offset: number, share: (index: number) => KvBlock | undefined): void {
    const { kv, stopPos } = this.#options;
    const end = Math.floor(Math.min(offset, stopPos) / kv.shape.blockPositions);
    while (this.#next < end) {
      const count = Math.min(this.#blocksAtOnce, end - this.#next);
      const blocks = Array.from({ length: count }, (_, i) => {
        const block = share(this.#next + i);
        assert(block, "a decoder without a window keeps all blocks");
        return block;
      });
      this.#chunks.push({ first: this.#next, blocks, asked: 0 });
      this.#next += count;
    }
    if (this.#next * kv.shape.blockPositions === stopPos) this.#end({ type: "Done", stopPos });
  }

  /** Says why there will be no more. */
  fail(error: ErrorInfo): void {
    this.#end({ type: "Failed", error });
  }

  /** Gives back what it has yet to send, and says why; false when that was nothing. */
  giveUp(error: ErrorInfo): boolean {
    if (this.#chunks.length === 0) return false;
    this.#dropChunks();
    this.#isEnded = true;
    this.#last = encodeFrame({ type: "Failed", error });
    return true;
  }

  /** The other side has taken so many bytes by now. */
  taken(bytes: number): void {
    this.#writer.taken(bytes);
  }

  /** Whether `pump` would do anything, or there is something to wait for. */
  get hasWork(): boolean {
    if (this.#asked.length > 0 || this.#nextToAsk) return true;
    if (this.#chunks.length > 0) return false;
    return this.#last ? this.#fits(this.#last.length) : this.#isNews;
  }

  /** Waits for bytes that others have, `ms` at most; false when there are none to wait for. */
  wait(ms: number): boolean {
    const [first] = this.#asked;
    first?.pending.wait(ms);
    return first !== undefined;
  }

  /**
   * Writes what there is room for; what is to be told of it, if anything.
   * @throws {AppError} what keeps it from more.
   */
  pump(): { bytes: number; end?: PrefillEnd } | undefined {
    while (this.#writeLayer() || this.#askForLayer());
    if (this.#chunks.length === 0 && this.#last && this.#fits(this.#last.length)) {
      this.#writer.write(this.#last);
      this.#last = undefined;
    }
    if (!this.#isNews) return undefined;
    this.#toldBytes = this.#writer.written;
    this.#hasToldEnd = this.#isWritten;
    return { bytes: this.#toldBytes, ...(this.#isWritten ? { end: {} } : {}) };
  }

  /** Gives its shares back. */
  [Symbol.dispose](): void {
    this.#dropChunks();
    if (!this.isDone) this.#writer.discard();
    this.#writer[Symbol.dispose]();
  }

  #dropChunks(): void {
    for (const { bytes, pending } of this.#asked.splice(0)) {
      pending[Symbol.dispose]();
      this.#options.underWay.arrived(bytes);
    }
    for (const { blocks } of this.#chunks) for (const block of blocks) block[Symbol.dispose]();
    this.#chunks.length = 0;
  }

  get #isWritten(): boolean {
    return this.#isEnded && this.#chunks.length === 0 && !this.#last;
  }

  get #isNews(): boolean {
    return this.#writer.written > this.#toldBytes || (this.#isWritten && !this.#hasToldEnd);
  }

  #end(record: PrefillRecord): void {
    if (this.#isEnded) return;
    this.#isEnded = true;
    this.#last = encodeFrame(record);
  }

  /** The first layer that was asked for, if it is there. */
  #writeLayer(): boolean {
    const [asked] = this.#asked;
    if (!asked?.pending.wait(0)) return false;
    const { chunk: { first, blocks }, layer, bytes, pending } = asked;
    const body = pending.collect();
    this.#asked.shift();
    this.#options.underWay.arrived(bytes);
    this.#write({ type: "Blocks", layer, first, count: blocks.length }, body);
    if (layer + 1 < this.#options.fingerprint.layers.length) return true;
    for (const block of blocks) block[Symbol.dispose]();
    this.#chunks.shift();
    return true;
  }

  /** The layer to be asked for; undefined where there is none, or no room for it. */
  get #nextToAsk(): { readonly chunk: Chunk; readonly bytes: number } | undefined {
    const { kv, fingerprint: { layers } } = this.#options;
    const chunk = this.#chunks.find(({ asked }) => asked < layers.length);
    if (!chunk) return undefined;
    const bytes = chunk.blocks.length * kv.layerBytes(chunk.asked);
    const underWay = this.#bytesUnderWay;
    if (!this.#options.underWay.hasRoom(bytes)) return undefined;
    const headers = this.#asked.length * HEADER_BYTES_MAX;
    return this.#fits(underWay + headers + bytes) ? { chunk, bytes } : undefined;
  }

  #askForLayer(): boolean {
    const next = this.#nextToAsk;
    if (!next) return false;
    const { chunk, bytes } = next;
    const layer = chunk.asked;
    const pending = this.#options.kv.read(layer, chunk.blocks);
    this.#asked.push({ chunk, layer, bytes, pending });
    this.#options.underWay.setOut(bytes);
    chunk.asked++;
    return true;
  }

  get #bytesUnderWay(): number {
    return this.#asked.reduce((sum, { bytes }) => sum + bytes, 0);
  }

  #fits(bytes: number): boolean {
    return this.#writer.room >= bytes + HEADER_BYTES_MAX;
  }

  #write(record: PrefillRecord, body?: Uint8Array): void {
    this.#writer.write(encodeFrame(record, body));
  }
}
