import { join } from "node:path";
import { getLogger } from "@logtape/logtape";
import { AppError } from "../core/errors.ts";
import { GATHER_BYTES_MAX, type GatherPiece, type GatherRound } from "../core/pending_gathers.ts";
import { FifoReader, FifoWriter, makeFifos } from "./fifo.ts";
import { makeProcessFolder, sweepFolders, tempFolder } from "./process_folders.ts";

const log = getLogger(["exo", "jaccl"]);

/** Runners of a node that may have one: each can keep a thread of Deno's pool (32) waiting. */
export const SIDE_CHANNELS_MAX = 8;

/** Bytes of a frame's length: u32, little-endian. */
const LENGTH_BYTES = 4;

/** Gives the pieces of all ranks, by rank, for that of one. */
export type Gather = (piece: GatherPiece) => Promise<readonly string[]>;

/** Whose side channel it is: processes that are to form a group. */
export type SideChannelOwner = Omit<GatherRound, "sequence">;

/** The side channels of a node's runners, where they are switched on. */
export class SideChannels {
  readonly #gather: Gather;
  readonly #open = new Set<SideChannel>();

  constructor(gather: Gather) {
    this.#gather = gather;
    sweepFolders("jaccl", tempFolder());
  }

  /**
   * Makes the pipes of a runner and begins to relay. `failed` is told why it cannot go on, once.
   * @throws {AppError} `queue_full`, or `storage_failed` when the pipes cannot be made.
   */
  async open(owner: SideChannelOwner, failed: (reason: string) => void): Promise<SideChannel> {
    if (this.#open.size >= SIDE_CHANNELS_MAX) {
      const found = `${this.#open.size} are open, ${SIDE_CHANNELS_MAX} at most needed`;
      throw new AppError("queue_full", `Cannot open a side channel: ${found}`, {
        hint: "delete an instance over RDMA on this node: exo instance list",
      });
    }
    const folder = makeProcessFolder("jaccl", tempFolder());
    const closed = (channel: SideChannel) => this.#open.delete(channel);
    try {
      const pipes = { input: join(folder, "p2c"), output: join(folder, "c2p") };
      await makeFifos(pipes.input, pipes.output);
      const channel = new SideChannel({ folder, pipes }, {
        owner,
        gather: this.#gather,
        failed,
        closed,
      });
      this.#open.add(channel);
      return channel;
    } catch (cause) {
      await Deno.remove(folder, { recursive: true });
      throw cause;
    }
  }
}

interface Made {
  readonly folder: string;
  readonly pipes: SideChannel["pipes"];
}

interface Parts {
  readonly owner: SideChannelOwner;
  readonly gather: Gather;
  readonly failed: (reason: string) => void;
  readonly closed: (channel: SideChannel) => void;
}

/**
 * The side channel of one start of a runner: what it writes goes to its group, and what all ranks
 * wrote comes back, joined by rank. Frames are a u32 length, little-endian, and as many bytes. The
 * pipes are of this start alone, so that nothing of an earlier one is ever read.
 */
export class SideChannel {
  /** As the runner has them: it reads `input`, and writes `output`. */
  readonly pipes: { readonly input: string; readonly output: string };
  readonly #folder: string;
  readonly #parts: Parts;
  readonly #reader: FifoReader;
  readonly #writer: FifoWriter;
  #closing: Promise<void> | undefined;

  constructor({ folder, pipes }: Made, parts: Parts) {
    this.#folder = folder;
    this.pipes = pipes;
    this.#parts = parts;
    this.#reader = new FifoReader(pipes.output);
    this.#writer = new FifoWriter(pipes.input);
    this.#relay().catch((cause) => this.#failed(cause));
  }

  /** One round after the other: the runner's next piece waits in its pipe meanwhile. */
  async #relay(): Promise<void> {
    for (let sequence = 0;; sequence++) {
      const piece = await this.#read();
      if (!piece) return;
      const data = piece.toBase64();
      const pieces = await this.#parts.gather({ ...this.#parts.owner, sequence, data });
      if (this.#closing) return;
      await this.#writer.write(frameOf(pieces.map((one) => Uint8Array.fromBase64(one))));
    }
  }

  async #read(): Promise<Uint8Array | undefined> {
    const header = await this.#reader.readExactly(LENGTH_BYTES);
    if (!header) return undefined;
    const length = new DataView(header.buffer).getUint32(0, true);
    if (length > GATHER_BYTES_MAX) {
      throw new AppError(
        "group_broken",
        `Cannot relay a frame of ${length} bytes, ${GATHER_BYTES_MAX} at most needed`,
        { hint: "the runner's MLX does not fit this exo: unset EXO_JACCL_SIDE_CHANNEL" },
      );
    }
    return await this.#reader.readExactly(length);
  }

  #failed(cause: unknown): void {
    if (this.#closing) return;
    const reason = cause instanceof Error ? cause.message : String(cause);
    log.warn("the side channel of {instanceId} fails: {reason}", {
      instanceId: this.#parts.owner.instanceId,
      reason,
    });
    this.#parts.failed(`[jaccl] side channel: ${reason}`);
    void this.close();
  }

  /** The runner is gone, or goes; resolves when neither pipes nor folder are there any more. */
  close(): Promise<void> {
    return this.#closing ??= this.#close();
  }

  async #close(): Promise<void> {
    await Promise.all([this.#reader.close(), this.#writer.close()]);
    await Deno.remove(this.#folder, { recursive: true });
    this.#parts.closed(this);
  }
}

/** One frame of several parts. */
function frameOf(parts: readonly Uint8Array[]): Uint8Array {
  const total = parts.reduce((sum, { length }) => sum + length, 0);
  const frame = new Uint8Array(LENGTH_BYTES + total);
  new DataView(frame.buffer).setUint32(0, total, true);
  let at = LENGTH_BYTES;
  for (const part of parts) {
    frame.set(part, at);
    at += part.length;
  }
  return frame;
}
