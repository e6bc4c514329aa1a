/** Devices, versions and the end of this process. */
import { check, native, takeText } from "./bind.ts";
import { unpackStrings } from "./strings.ts";

/** What MLX says about its default device: type, index, gpu_backend, and keys of the backend. */
export function deviceInfo(): Record<string, string | number> {
  const words = unpackStrings(takeText(check("shim_device_info", native().shim_device_info())));
  const info: Record<string, string | number> = {};
  for (let i = 0; i + 2 < words.length; i += 3) {
    const [key = "", kind, value = ""] = words.slice(i, i + 3);
    info[key] = kind === "number" ? Number(value) : value;
  }
  return info;
}

/** The version of MLX, e.g. "0.32.4". */
export function mlxVersion(): string {
  const length = check("shim_mlx_version", native().shim_mlx_version());
  return new TextDecoder().decode(takeText(length));
}

/**
 * Chooses where new operations run; by default a GPU if MLX has one.
 * @throws {NativeError} if there is no such device.
 */
export function setDefaultDevice(type: "cpu" | "gpu", index = 0): void {
  check("shim_set_default_device", native().shim_set_default_device(type === "gpu", index));
}

/**
 * Ends this process with exit code 113 as soon as the other end of a pipe or Unix socket closes,
 * even while native code runs. A thread of the shim waits; it reads no data.
 * @throws {NativeError} if the file descriptor is not open.
 */
export function watchParent(fd: number): void {
  check("shim_watch_parent", native().shim_watch_parent(fd));
}

/**
 * Lets the event loop turn once: by a call that another thread answers at once, some 25 µs, where a
 * timer takes 2 ms and immediates leave pipes waiting.
 */
export async function turnEventLoop(): Promise<void> {
  await native().shim_yield();
}
