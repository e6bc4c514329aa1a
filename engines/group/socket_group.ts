import type { GroupTraffic } from "../../core/engine_stats.ts";
import { AppError } from "../../core/errors.ts";
import { type GroupSpec, JOIN_TIMEOUT_MS } from "../../core/group.ts";
import {
  allSum,
  GroupError,
  GroupListener,
  NativeError,
  type NativeGroup,
  type Tensor,
} from "../../ffi/mod.ts";
import type { Group } from "../group.ts";

/** A group over TCP connections of our own, which sums within steps use too. */
export class SocketGroup implements Group {
  readonly #native: NativeGroup;

  /** Takes the group over. */
  constructor(native: NativeGroup) {
    this.#native = native;
  }

  /**
   * Meets the other ranks; `listener` is one that listens for them already.
   * @throws {AppError} `group_broken`, with who is missing or why this rank cannot listen.
   */
  static async join(
    { groupId, rank, size, names, link }: GroupSpec,
    listener?: GroupListener,
  ): Promise<SocketGroup> {
    const [own, next] = [link.hosts[rank], link.hosts[(rank + 1) % size]];
    if (!own || !next) {
      throw new AppError(
        "group_broken",
        `Cannot join the other ranks: found ${link.hosts.length} hosts, a ring of ${size} needed`,
        { hint: "place the model anew: exo instance create MODEL" },
      );
    }
    try {
      using bound = listener ?? GroupListener.bind(own.ip, own.port);
      const timeoutMs = JOIN_TIMEOUT_MS;
      return new SocketGroup(await bound.join({ groupId, rank, size, names, next, timeoutMs }));
    } catch (error) {
      throw broken(error);
    }
  }

  get rank(): number {
    return this.#native.rank;
  }

  get size(): number {
    return this.#native.size;
  }

  get names(): readonly string[] {
    return this.#native.names;
  }

  send(header: Uint8Array, body?: Uint8Array): void {
    try {
      this.#native.send(header, body);
    } catch (error) {
      throw broken(error);
    }
  }

  receive(ms: number): Uint8Array<ArrayBuffer> | undefined {
    try {
      return this.#native.receive(ms);
    } catch (error) {
      throw broken(error);
    }
  }

  /** Of f32 between the ranks. Within a plan it is one of its steps. */
  sum(x: Tensor): Tensor {
    const { dtype } = x;
    if (dtype === "float32") return allSum(x, this.#native);
    return allSum(x.astype("float32"), this.#native).astype(dtype);
  }

  traffic(): GroupTraffic {
    const { bytesSent, framesSent, waitedMs } = this.#native.counters();
    return { bytesSent, framesSent, waitedMs };
  }

  arrival(): Promise<void> {
    return this.#native.arrival();
  }

  [Symbol.dispose](): void {
    this.#native[Symbol.dispose]();
  }
}

/** What came of a call to a group, as the others of the engine say it. */
function broken(error: unknown): unknown {
  return error instanceof NativeError ? brokenFor(error.reason, error) : brokenGroup(error);
}

/** An error that names the rank which is gone, as the others of the engine say it; others as are. */
export function brokenGroup(error: unknown): unknown {
  return error instanceof GroupError ? brokenFor(error.message, error) : error;
}

function brokenFor(message: string, error: Error): AppError {
  const hint = "exo instance list shows its ranks; it is started again by itself";
  return new AppError("group_broken", message, { hint, cause: error });
}
