import type { GroupTraffic } from "../../core/engine_stats.ts";
import { AppError, assert } from "../../core/errors.ts";
import { type GroupSpec, JOIN_TIMEOUT_MS } from "../../core/group.ts";
import {
  type DistributedGroup,
  type GroupPlace,
  initGroup,
  MissingBackendError,
  NativeError,
  requireBackend,
  type Tensor,
} from "../../ffi/mod.ts";
import type { Group } from "../group.ts";
import { SocketGroup } from "../group/socket_group.ts";

/** What upstream found to help where RDMA itself is in disorder (spec §13.2). */
const RDMA_HINT = "if it happens again, restart the machine: its RDMA driver may be stuck";

/** How the ranks of a group meet; a test has another backend, and listens already. */
export interface MlxJoin {
  /** Where MLX finds the ranks; by RDMA, as the spec says, unless it is given. */
  readonly place?: GroupPlace;
  /** Meets the other ranks for frames; {@linkcode SocketGroup.join} unless it is given. */
  readonly joinFrames?: (spec: GroupSpec) => Promise<SocketGroup>;
  /** How long the ranks may take to meet. */
  readonly timeoutMs?: number;
}

/**
 * The ranks of an instance whose sums MLX makes, over RDMA: for devices on which MLX computes. Each
 * rank of MLX's does one thing at a time, in the same order as its peers, and waits for them without
 * a limit. So frames, which come when they come, go round a ring of sockets (decision 28), which also
 * shows who is gone to a rank that does not sum; one that does is ended by its node.
 */
export class MlxGroup implements Group {
  readonly #frames: SocketGroup;
  readonly #sums: DistributedGroup;

  private constructor(frames: SocketGroup, sums: DistributedGroup) {
    this.#frames = frames;
    this.#sums = sums;
  }

  /**
   * Meets the other ranks: round the ring first, so that whoever is missing is named, then over
   * MLX. Once that has failed the process is of no use any more: MLX may go on waiting in it.
   * @throws {AppError} `group_broken`, with who is missing or what this machine lacks.
   */
  static async join(spec: GroupSpec, options: MlxJoin = {}): Promise<MlxGroup> {
    const { place = placeOf(spec), joinFrames = SocketGroup.join } = options;
    const { timeoutMs = JOIN_TIMEOUT_MS } = options;
    requireHere(place);
    const startedAt = performance.now();
    const frames = await joinFrames(spec);
    try {
      const leftMs = Math.max(0, timeoutMs - (performance.now() - startedAt));
      const sums = await within(initGroup(place), leftMs, () => late(spec, timeoutMs));
      return new MlxGroup(frames, sums);
    } catch (cause) {
      frames[Symbol.dispose]();
      throw cause instanceof NativeError ? notFormed(spec, cause.reason, cause) : cause;
    }
  }

  get rank(): number {
    return this.#frames.rank;
  }

  get size(): number {
    return this.#frames.size;
  }

  get names(): readonly string[] {
    return this.#frames.names;
  }

  send(header: Uint8Array, body?: Uint8Array): void {
    this.#frames.send(header, body);
  }

  receive(ms: number): Uint8Array<ArrayBuffer> | undefined {
    return this.#frames.receive(ms);
  }

  arrival(): Promise<void> {
    return this.#frames.arrival();
  }

  sum(x: Tensor): Tensor {
    return this.#sums.allSum(x);
  }

  /** Of frames alone: nobody counts what MLX sends. */
  traffic(): GroupTraffic {
    return this.#frames.traffic();
  }

  [Symbol.dispose](): void {
    this.#frames[Symbol.dispose]();
    this.#sums[Symbol.dispose]();
  }
}

function placeOf({ rank, link }: GroupSpec): GroupPlace {
  assert(link.type === "jaccl", "MLX sums where an instance has RDMA");
  const { devices, coordinator, sideChannel } = link;
  return { backend: "jaccl", rank, devices, coordinator, sideChannel };
}

/** Before anybody waits for others: what this machine lacks it will lack in a minute, too. */
function requireHere({ backend }: GroupPlace): void {
  try {
    requireBackend(backend);
  } catch (cause) {
    if (!(cause instanceof MissingBackendError)) throw cause;
    const hint = "place the instance over a ring: exo instance create MODEL --transport ring";
    throw new AppError("group_broken", cause.message, { hint, cause });
  }
}

async function within<T>(joining: Promise<T>, ms: number, late: () => AppError): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(late()), ms);
  try {
    return await Promise.race([joining, promise]);
  } finally {
    clearTimeout(timer);
    joining.catch(() => {}); // Nobody waits for it once it is late.
  }
}

function late(spec: GroupSpec, timeoutMs: number): AppError {
  return notFormed(spec, `MLX has not found all of them within ${timeoutMs / 1_000} s`);
}

function notFormed({ rank, names, link }: GroupSpec, found: string, cause?: Error): AppError {
  const others = names.flatMap((name, at) => at === rank ? [] : [`rank ${at} on "${name}"`]);
  return new AppError("group_broken", `Cannot form a group with ${others.join(", ")}: ${found}`, {
    ...(link.type === "jaccl" ? { hint: RDMA_HINT } : {}),
    cause,
  });
}
