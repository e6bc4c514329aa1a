/**
 * What the compiler is told for each source, and to link them: the build runs these and the stamp
 * hashes them, so that no flag can change without a new library.
 *
 * @module
 */
import { kernelFlags } from "./kernels/flags.ts";
import type { Wheel } from "./wheels.ts";

/** What the commands depend on. No path: the stamp is the same wherever the cache folder lies. */
export interface Compilation {
  /** The sources to compile, headers not among them. */
  readonly programs: readonly string[];
  readonly wheels: readonly Wheel[];
  /** The name of the wheels' folder. */
  readonly wheelsName: string;
  /** The name of the library's file. */
  readonly libraryName: string;
  /** As in `Deno.build.os`. */
  readonly os: string;
  /** As in `Deno.build.arch`. */
  readonly arch: string;
}

/** Arguments of the compiler, run among the sources: in `WORK/.src`, WORK beside the wheels. */
export interface CompileCommands {
  /** One for each source, in any order. */
  readonly objects: readonly (readonly string[])[];
  /** Run when all the objects are there; writes the library into WORK. */
  readonly link: readonly string[];
}

/** Of every source, whatever else it needs. */
const COMMON = ["-O3", "-fPIC"];

/** The commands that make the library. */
export function compileCommands(compilation: Compilation): CompileCommands {
  return {
    objects: compilation.programs.map((name) => objectCommand(name, compilation)),
    link: linkCommand(compilation),
  };
}

function objectCommand(name: string, compilation: Compilation): string[] {
  const own = name.startsWith("kernels/")
    ? kernelFlags(name, compilation.arch)
    : ["-std=c++20", `-I../../${compilation.wheelsName}/mlx/include`, ...forwardFlags(compilation)];
  return [...own, ...COMMON, "-c", name, "-o", `${name}.o`];
}

/** The libraries are found beside the shim, wherever the cache folder moves. */
function linkCommand(compilation: Compilation): string[] {
  const { programs, wheelsName, libraryName, os } = compilation;
  const forwards = forwardFlags(compilation).length > 0;
  const here = os === "darwin" ? "@loader_path" : "$ORIGIN";
  const folders = ["mlx/lib", ...(forwards ? ["scipy_openblas32/lib"] : [])];
  return [
    "-shared",
    "-o",
    `../${libraryName}`,
    ...programs.map((name) => `${name}.o`),
    ...folders.map((each) => `-L../../${wheelsName}/${each}`),
    "-lmlx",
    ...(forwards ? ["-lscipy_openblas"] : []),
    ...(os === "darwin" ? [] : ["-pthread"]),
    ...folders.map((each) => `-Wl,-rpath,${here}/../${wheelsName}/${each}`),
  ];
}

/** Whether MLX's products of matrices are passed on to OpenBLAS: where its wheel is. */
function forwardFlags({ wheels }: Compilation): string[] {
  return wheels.some(({ name }) => name === "scipy-openblas32") ? ["-DSHIM_FORWARD_BLAS"] : [];
}
