import { AppError, assert, toAppError } from "../../core/errors.ts";
import type { Decoder, KvBlock } from "../decoder.ts";
import type { KvMove } from "./cache_operation.ts";
import type { Replica } from "./replica.ts";
import type { Failure } from "./step_frame.ts";

/** Who takes part in what passes. */
export interface PassingKvParts {
  readonly part: Decoder;
  readonly replica: Replica;
  /** Of the model, the first one that this rank has. */
  readonly firstLayer: number;
  /** What its node is called. */
  readonly name: string;
}

/** A rank's share in keys and values that pass it, on their way from or to the first one. */
export class PassingKv {
  readonly #parts: PassingKvParts;

  constructor(parts: PassingKvParts) {
    this.#parts = parts;
  }

  /**
   * What goes on to the next rank: with this one's part added, or without it; or why nothing does.
   * @throws {AppError} `group_broken` for what this rank does not hold.
   */
  move(move: KvMove, body: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> | Failure {
    const layer = move.layer - this.#parts.firstLayer;
    const layers = this.#parts.part.kvBytes?.shape.layers.length ?? 0;
    // Of a pipeline, it is another rank's.
    if (layer < 0 || layer >= layers) return body;
    try {
      return move.type === "read" ? this.#read(layer, move, body) : this.#write(layer, move, body);
    } catch (cause) {
      const error = toAppError(cause);
      if (error.code === "group_broken") throw error;
      return { error: error.toInfo(), isLost: false };
    }
  }

  #read(
    layer: number,
    { shares }: Extract<KvMove, { type: "read" }>,
    body: Uint8Array<ArrayBuffer>,
  ): Uint8Array<ArrayBuffer> {
    const blocks = shares.map((number): KvBlock => {
      const block = this.#parts.replica.block(number);
      if (block) return block;
      throw new AppError("internal", `${CANNOT_READ}: a step that failed has lost them`);
    });
    const own = this.#kv.read(layer, blocks).collect();
    const all = new Uint8Array(body.length + own.length);
    all.set(body);
    all.set(own, body.length);
    return all;
  }

  #write(
    layer: number,
    { cache, count }: Extract<KvMove, { type: "write" }>,
    body: Uint8Array<ArrayBuffer>,
  ): Uint8Array<ArrayBuffer> {
    const { own, isLost, lacking } = this.#parts.replica.cache(cache);
    const { name } = this.#parts;
    if (lacking !== undefined) {
      const found = `Cannot take keys and values: there is no memory for them on "${name}"`;
      throw new AppError("out_of_memory", found, { cause: lacking });
    }
    if (isLost) {
      throw new AppError("internal", `Cannot take keys and values: "${name}" has lost others`);
    }
    const bytes = count * this.#kv.layerBytes(layer);
    this.#kv.write(layer, own, body.subarray(0, bytes)).collect();
    return body.subarray(bytes);
  }

  get #kv() {
    const { kvBytes } = this.#parts.part;
    assert(kvBytes, "it has layers whose keys and values travel");
    return kvBytes;
  }
}

const CANNOT_READ = "Cannot pass keys and values on";
