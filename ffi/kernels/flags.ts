/** How the sources in this folder are compiled; each instruction set has files of its own. */

/** What every kernel source needs: no contraction, so that all compilers do the same arithmetic. */
const COMMON = ["-std=c++20", "-ffp-contract=off", "-Wno-psabi"];

/** PREFETCHW is no operation where a processor lacks it. */
const AVX2 = ["-mavx2", "-mfma", "-mf16c", "-mprfchw"];

const AVX512 = [...AVX2, ...["f", "bw", "vl", "dq", "vnni"].map((part) => `-mavx512${part}`)];

/** Flags for files whose name ends with `_<key>.cpp`. */
const BY_SUFFIX: Readonly<Record<string, readonly string[]>> = {
  avx2: AVX2,
  avx512: AVX512,
  // No flags for the tiles: an older compiler would refuse them.
  amx: [...AVX512, "-mavx512vbmi"],
};

/** The compiler's flags for one source, e.g. `linear_avx2.cpp`; optimisation is the caller's. */
export function kernelFlags(source: string, arch: string = Deno.build.arch): string[] {
  const suffix = /_([a-z0-9]+)\.cpp$/.exec(source)?.[1] ?? "";
  return [...COMMON, ...(arch === "x86_64" ? BY_SUFFIX[suffix] ?? [] : [])];
}
