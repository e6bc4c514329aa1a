import { AppError } from "../../core/errors.ts";
import type { GroupSpec } from "../../core/group.ts";
import {
  type DistributedGroup,
  type GroupPlace,
  initGroup,
  MissingBackendError,
  NativeError,
  type Tensor,
} from "../../ffi/mod.ts";
import { type Group, nextRank } from "../group.ts";

/** How long the ranks may take to meet. */
export const JOIN_TIMEOUT_MS = 60_000;

/** What upstream found to help where RDMA itself is in disorder (spec §13.2). */
const RDMA_HINT = "if it happens again, restart the machine: its RDMA driver may be stuck";

/**
 * The ranks of an instance over MLX distributed, for devices on which MLX computes. A rank whose
 * peer is silent waits: MLX's links know of no heartbeat. Sums and frames share the ring's sockets,
 * so that a rank that has asked for a frame, and has none, must not sum.
 */
export class MlxGroup implements Group {
  readonly rank: number;
  readonly size: number;
  readonly names: readonly string[];
  readonly #native: DistributedGroup;

  private constructor(native: DistributedGroup, names: readonly string[]) {
    this.#native = native;
    this.rank = native.rank;
    this.size = native.size;
    this.names = names;
  }

  /**
   * Meets the other ranks. Once it has failed for want of time the process is of no use any more:
   * MLX goes on waiting in it.
   * @throws {AppError} `group_broken`, which names those who are looked for.
   */
  static async join(spec: GroupSpec, timeoutMs = JOIN_TIMEOUT_MS): Promise<MlxGroup> {
    try {
      const native = await within(initGroup(placeOf(spec)), spec, timeoutMs);
      return new MlxGroup(native, spec.names);
    } catch (cause) {
      throw joinFailed(cause, spec);
    }
  }

  send(header: Uint8Array<ArrayBuffer>, body?: Uint8Array<ArrayBuffer>): void {
    this.#do(() => this.#native.sendFrame(header, body));
  }

  receive(ms: number): Uint8Array<ArrayBuffer> | undefined {
    return this.#do(() => this.#native.receiveFrame(ms));
  }

  async arrival(): Promise<void> {
    await this.#native.frameArrival();
  }

  /** The sum of all ranks' x, when it is computed; all of them must sum. */
  allSum(x: Tensor): Tensor {
    return this.#do(() => this.#native.allSum(x));
  }

  /** All ranks' x, joined along the first axis by rank. */
  allGather(x: Tensor): Tensor {
    return this.#do(() => this.#native.allGather(x));
  }

  [Symbol.dispose](): void {
    this.#native[Symbol.dispose]();
  }

  #do<T>(act: () => T): T {
    try {
      return act();
    } catch (cause) {
      if (!(cause instanceof NativeError)) throw cause;
      throw broken(cause, this);
    }
  }
}

/** A link that failed, by the name of the rank at its other end. */
function broken({ reason }: NativeError, group: Pick<Group, "rank" | "size" | "names">): AppError {
  const [, what, why = reason] = /^(send|receive): (.*)$/s.exec(reason) ?? [];
  const before = (group.rank + group.size - 1) % group.size;
  const peer = what === "send" ? nextRank(group) : before;
  const message = what === undefined
    ? `Cannot use the group of "${group.names[group.rank]}": ${why}`
    : `Rank ${peer} on "${group.names[peer]}" cannot be reached any more: ${why}`;
  return new AppError("group_broken", message, hintOf(why));
}

/** What to do about it, where that is more than to wait. */
function hintOf(reason: string): { hint: string } | undefined {
  return reason.includes("[jaccl]") ? { hint: RDMA_HINT } : undefined;
}

function joinFailed(cause: unknown, spec: GroupSpec): unknown {
  if (cause instanceof MissingBackendError) {
    const hint = "place the instance over a ring: exo instance create MODEL --transport ring";
    return new AppError("group_broken", cause.message, { hint, cause });
  }
  if (!(cause instanceof NativeError)) return cause;
  const message = `Cannot form a group with ${othersOf(spec)}: ${cause.reason}`;
  return new AppError("group_broken", message, { ...hintOf(cause.reason), cause });
}

async function within<T>(joining: Promise<T>, spec: GroupSpec, timeoutMs: number): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    const found = `not all of them came within ${timeoutMs / 1_000} s`;
    const error = new AppError(
      "group_broken",
      `Cannot form a group with ${othersOf(spec)}: ${found}`,
      spec.link.type === "jaccl" ? { hint: RDMA_HINT } : undefined,
    );
    timer = setTimeout(() => reject(error), timeoutMs);
  });
  try {
    return await Promise.race([joining, late]);
  } finally {
    clearTimeout(timer);
    joining.catch(() => {}); // Nobody waits for it once it is late.
  }
}

function othersOf({ rank, names }: GroupSpec): string {
  return names.flatMap((name, at) => at === rank ? [] : [`rank ${at} on "${name}"`]).join(", ");
}

/** Where MLX finds the ranks; MLX's ring knows IPv4 alone. */
function placeOf({ rank, link }: GroupSpec): GroupPlace {
  if (link.type === "ring") {
    return { backend: "ring", rank, hosts: link.hosts.map(({ ip, port }) => `${ip}:${port}`) };
  }
  const { devices, coordinator, sideChannel } = link;
  return { backend: "jaccl", rank, devices, coordinator, sideChannel };
}
