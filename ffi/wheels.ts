/**
 * The pinned wheels that hold MLX, and which of them this machine needs. Hashes of several
 * platforms stand in one row; pip takes the wheel that fits and refuses any other bytes.
 *
 * @module
 */
import { SetupError } from "./errors.ts";
import { CUDA_12, CUDA_13 } from "./wheels_cuda.ts";

/** A wheel of the package index, pinned by version and content. */
export interface Wheel {
  readonly name: string;
  readonly version: string;
  /** SHA-256 of each platform's file, in hex. */
  readonly sha256: readonly string[];
}

/** A build of MLX, named as in the environment variable EXO_MLX. */
export type Variant = "cpu" | "metal" | "cuda-12" | "cuda-13";

/** The version of MLX that the shim is written against. */
export const MLX_VERSION = "0.32.4";

const mlx = (name: string, ...sha256: string[]): Wheel => ({ name, version: MLX_VERSION, sha256 });

const nvidia = ([name, version, ...sha256]: (typeof CUDA_12)[number]): Wheel => (
  { name, version, sha256 }
);

/** OpenBLAS for Linux, where MLX's own wheel brings the slow reference BLAS. */
const OPENBLAS: Wheel = {
  name: "scipy-openblas32",
  version: "0.3.34.481.3",
  sha256: [
    "0595f94cd58c1f8a0d90c975621f4587337a003916b1979e834ebdf2cb5d9504", // Linux x64.
    "e085dddbc5b9aa130f83def515d31c440e69f387a90c7e63b154a5575b4466bc", // Linux arm64.
  ],
};

/** What each build of MLX is made of. */
export const WHEELS: Readonly<Record<Variant, readonly Wheel[]>> = {
  cpu: [
    mlx(
      "mlx-cpu",
      "0e0a24fa2ce8b6b94d2e6a90604e8813aa8e29fcb918bb2aa01cfb6d133d8cee", // Linux x64.
      "1289e85e64af1fd16380bf331438bfe4afe875d27afc3e0bcf35f427c488fadd", // Linux arm64.
    ),
    OPENBLAS,
  ],
  metal: [
    mlx(
      "mlx-metal",
      "8019b2db622599267d66cc168b2f0dbf5af929790a6c3b3913e00eabc42a7947", // macOS 14.
      "9f0a3cc26d89724434d9684932fc6f3e4e83669d2a895d858ed2c8a55eb84e8b", // macOS 15.
      "514df92d41a286895d2564b4b18f4da45096bd7a4a0c47e1042f345ad5a7f936", // macOS 26.
    ),
  ],
  "cuda-12": [
    mlx(
      "mlx-cuda-12",
      "f385c7af7c1f63a9d6ce3e442e1c9ba881c881bcb45c6534ff8155b359da47e5", // Linux x64.
      "cea869b007c809013c369819d485e3b534f3ecc261199b4c655ef92a21f73f28", // Linux arm64.
    ),
    OPENBLAS,
    ...CUDA_12.map(nvidia),
  ],
  "cuda-13": [
    mlx(
      "mlx-cuda-13",
      "94cb48fba73e5ee39467e51c35c51c691123359ca17bafd1a24cf92ad6732bee", // Linux x64.
      "cf8a67b49cebff85cd98b1d118c09f6c8ee966b899a914c50cc74d614b25616e", // Linux arm64.
    ),
    OPENBLAS,
    ...CUDA_13.map(nvidia),
  ],
};

/** What a choice of wheels depends on. */
export interface Machine {
  /** As in `Deno.build.os`. */
  readonly os: string;
  /** As in `Deno.build.arch`. */
  readonly arch: string;
  /** The value of EXO_MLX, if any. */
  readonly wanted: string | undefined;
}

/**
 * The build of MLX for a machine: CPU on Linux, Metal on macOS, or the one that EXO_MLX names.
 * @throws {SetupError} if there is none.
 */
export function chooseVariant({ os, arch, wanted }: Machine): Variant {
  const fitting = variantsFor(os, arch);
  if (fitting.length === 0) {
    throw new SetupError(
      `Cannot set up MLX on ${os} ${arch}: it is built for Linux x64 and arm64 and for macOS arm64`,
      "use one of these platforms; on Windows, WSL2 with Ubuntu 22.04 or later is one",
    );
  }
  const variant = fitting.find((each) => each === (wanted || fitting[0]));
  if (variant) return variant;
  throw new SetupError(
    `Cannot set up the MLX build "${wanted}" on ${os} ${arch}: one of ${fitting.join(", ")} needed`,
    `set EXO_MLX to one of: ${fitting.join(", ")}; or unset it for ${fitting[0]}`,
  );
}

function variantsFor(os: string, arch: string): readonly Variant[] {
  if (os === "darwin") return arch === "aarch64" ? ["metal"] : [];
  return os === "linux" && ["x86_64", "aarch64"].includes(arch)
    ? ["cpu", "cuda-12", "cuda-13"]
    : [];
}

/** The wheels as a requirements file for `pip download --require-hashes`. */
export function requirements(wheels: readonly Wheel[]): string {
  return wheels.map(({ name, version, sha256 }) =>
    `${name}==${version} ${sha256.map((hash) => `--hash=sha256:${hash}`).join(" ")}\n`
  ).join("");
}
