/**
 * Looks at the devices of this machine in a process of its own, so that a crash of a driver ends no
 * one else: `deno run ... ffi/probe.ts` with EXO_MLX_LIBRARY set prints the facts as JSON.
 *
 * @module
 */
import { deviceInfo, mlxVersion } from "./device.ts";
import { negative } from "./arithmetic.ts";
import { fromArray, ones } from "./create.ts";
import { matmul } from "./linear.ts";
import { Scope } from "./scope.ts";

/** What `device.json` holds. */
export interface DeviceFacts {
  readonly backends: readonly ("MlxCpu" | "MlxMetal" | "MlxCuda")[];
  readonly mlxVersion: string;
  /** What MLX says about its default device. */
  readonly device: Readonly<Record<string, string | number>>;
  /** Of the device, or of the machine where the device has none of its own. */
  readonly memoryBytes: number;
  /** Bytes per second that the device moves to and from its memory, as measured. */
  readonly memoryBandwidthBytesPerSecond: number;
}

/** Elements of the array that the measurement moves: 128 MiB, more than any cache. */
const MOVED_ELEMENTS = 32 * 1024 * 1024;

/** Passes of which the fastest counts: whatever else runs can only slow one down. */
const MOVED_PASSES = 4;

/** Reads an array and writes another, over and over. */
function measureBandwidth(): number {
  using array = ones([MOVED_ELEMENTS]);
  array.eval();
  const bytes = 2 * MOVED_ELEMENTS * Float32Array.BYTES_PER_ELEMENT;
  const passes = Array.from({ length: MOVED_PASSES }, () => {
    using _scope = new Scope();
    const before = performance.now();
    negative(array).eval();
    return bytes / (performance.now() - before) * 1000;
  });
  return Math.round(Math.max(...passes));
}

/**
 * The facts of this machine, after one small product was computed and found right.
 * @throws {Error} if the device computes nonsense.
 */
export function probeDevice(): DeviceFacts {
  const product = matmul(fromArray([1, 2, 3, 4], [2, 2]), fromArray([5, 6, 7, 8], [2, 2]));
  const found = product.toNumbers().join(" ");
  if (found !== "19 22 43 50") {
    throw new Error(`Cannot use the device: a product of two matrices gave ${found}`);
  }
  const device = deviceInfo();
  const gpu = { metal: "MlxMetal", cuda: "MlxCuda" } as const;
  const backend = gpu[device["gpu_backend"] as keyof typeof gpu];
  const own = device["total_memory"] ?? device["memory_size"];
  return {
    backends: backend ? [backend, "MlxCpu"] : ["MlxCpu"],
    mlxVersion: mlxVersion(),
    device,
    memoryBytes: backend && typeof own === "number" ? own : Deno.systemMemoryInfo().total,
    memoryBandwidthBytesPerSecond: measureBandwidth(),
  };
}

if (import.meta.main) {
  const encoder = new TextEncoder();
  try {
    const text = JSON.stringify(probeDevice(), null, 2);
    Deno.stdout.writeSync(encoder.encode(`${text}\n`));
  } catch (error) {
    // Whoever asked shows this to a person, who needs no stack.
    Deno.stderr.writeSync(encoder.encode(error instanceof Error ? error.message : String(error)));
    Deno.exit(1);
  }
}
