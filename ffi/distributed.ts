/**
 * MLX distributed: the processes of a group, one of which this is, and what they compute together.
 * A process forms one group at most. Read {@linkcode initGroup} first.
 *
 * @module
 */
import { join } from "node:path";
import { check, native, takeText } from "./bind.ts";
import { NativeError } from "./errors.ts";
import { cString } from "./strings.ts";
import { type Tensor, wrap } from "./tensor.ts";

/** Over what MLX's processes talk to each other. */
export type GroupBackend = "ring" | "jaccl" | "nccl";

/** Where a process finds the others of its group. */
export type GroupPlace =
  | {
    /** TCP, between neighbours. */
    readonly backend: "ring";
    readonly rank: number;
    /** `ip:port` of all ranks, IPv4 alone: this one listens at its own. */
    readonly hosts: readonly string[];
  }
  | {
    /** RDMA over Thunderbolt, on macOS. */
    readonly backend: "jaccl";
    readonly rank: number;
    /** Row and column are ranks: the device of the row's rank on the cable to the column's. */
    readonly devices: readonly (readonly (string | null)[])[];
    /** `ip:port` at which the first rank listens, as this one reaches it. */
    readonly coordinator: string;
    /** Named pipes of this process's node that stand for the coordinator. */
    readonly sideChannel?: PipePair | undefined;
  }
  | {
    /** Between CUDA devices. */
    readonly backend: "nccl";
    readonly rank: number;
    readonly size: number;
    /** Where the first rank listens. */
    readonly host: { readonly ip: string; readonly port: number };
  };

/** A pipe that is read, and one that is written. */
export interface PipePair {
  readonly input: string;
  readonly output: string;
}

/** A backend that the MLX of this machine was built without. */
export class MissingBackendError extends Error {
  /** As JavaScript shows it. */
  override readonly name = "MissingBackendError";

  /** Names the backend. */
  constructor(readonly backend: GroupBackend) {
    super(`Cannot form a group over ${backend}: the MLX of this machine lacks it`);
  }
}

/** Makes sure of a backend. @throws {MissingBackendError} where MLX has no such one. */
export function requireBackend(backend: GroupBackend): void {
  const available = native().shim_distributed_available(cString(backend));
  if (check("shim_distributed_available", available) === 0) throw new MissingBackendError(backend);
}

/**
 * Meets the other processes of a group; resolves once all are there. MLX itself sets no limit: a
 * caller that waits no longer ends its process.
 * @throws {MissingBackendError} where MLX has no such backend.
 * @throws {NativeError} with MLX's reason why they do not meet.
 */
export async function initGroup(place: GroupPlace): Promise<DistributedGroup> {
  const { backend } = place;
  requireBackend(backend);
  const folder = await Deno.makeTempDir({ prefix: "exo-group-" });
  try {
    for (const [name, value] of Object.entries(await variablesOf(place, folder))) {
      Deno.env.set(name, value);
    }
    const pipes = place.backend === "jaccl" ? place.sideChannel : undefined;
    // Named, so that they are there for as long as the call goes on.
    const texts = [backend, pipes?.input ?? "", pipes?.output ?? ""].map(cString);
    const [name, input, output] = texts as [Text, Text, Text];
    const status = await native().shim_distributed_init(name, input, output);
    requireAside("shim_distributed_init", status);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
  return new DistributedGroup();
}

type Text = ReturnType<typeof cString>;

/** What MLX reads from the environment; files lie in `folder`, which is private. */
async function variablesOf(place: GroupPlace, folder: string): Promise<Record<string, string>> {
  const MLX_RANK = String(place.rank);
  const file = join(folder, "group.json");
  const write = (content: unknown) =>
    Deno.writeTextFile(file, JSON.stringify(content), { mode: 0o600 });
  switch (place.backend) {
    case "ring":
      // Several addresses of a rank would be several connections.
      await write(place.hosts.map((host) => [host]));
      return { MLX_RANK, MLX_HOSTFILE: file };
    case "jaccl":
      await write(place.devices);
      return { MLX_RANK, MLX_IBV_DEVICES: file, MLX_JACCL_COORDINATOR: place.coordinator };
    case "nccl":
      return {
        MLX_RANK,
        MLX_WORLD_SIZE: String(place.size),
        NCCL_HOST_IP: place.host.ip,
        NCCL_PORT: String(place.host.port),
      };
  }
}

/** As `check`, of a function that ran on a thread of its own. */
function requireAside(
  name: "shim_distributed_init" | "shim_pipe_gather",
  status: number,
): void {
  if (status >= 0) return;
  const length = check("shim_distributed_failure", native().shim_distributed_failure());
  throw new NativeError(name, new TextDecoder().decode(takeText(length)));
}

/** The group that this process is of. What ranks compute together, all of them must begin. */
export class DistributedGroup implements Disposable {
  readonly rank: number;
  readonly size: number;

  /** Use {@linkcode initGroup}. */
  constructor() {
    this.rank = check("shim_distributed_rank", native().shim_distributed_rank());
    this.size = check("shim_distributed_size", native().shim_distributed_size());
  }

  /** The sum of all ranks' x. */
  allSum(x: Tensor): Tensor {
    return wrap("shim_distributed_all_sum", native().shim_distributed_all_sum(x.handle));
  }

  /** Leaves the group. MLX does not end what it waits for: that ends with the process. */
  [Symbol.dispose](): void {
    check("shim_distributed_leave", native().shim_distributed_leave());
  }
}

/**
 * A round of a group's side channel, as MLX has it done when it forms a group over JACCL: gives the
 * bytes of all ranks, which are as many of each.
 * @throws {NativeError} if the pipes end, or not all ranks come.
 */
export async function gatherOverPipes(
  { input, output }: PipePair,
  { data, ranks }: { readonly data: Uint8Array<ArrayBuffer>; readonly ranks: number },
): Promise<Uint8Array<ArrayBuffer>> {
  const out = new Uint8Array(data.length * ranks);
  const [reads, writes] = [cString(input), cString(output)];
  const status = await native().shim_pipe_gather(reads, writes, data, data.length, ranks, out);
  requireAside("shim_pipe_gather", status);
  return out;
}
