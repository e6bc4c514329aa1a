/** Set by `--v8-flags=--expose-gc`. */
declare const gc: () => void;

/** What this process holds after a full garbage collection; it needs `--v8-flags=--expose-gc`. */
export async function liveBytes(): Promise<number> {
  // Twice, with a turn between: what the first one found dead may hold what finalizers let go.
  gc();
  await new Promise((resolve) => setTimeout(resolve, 0));
  gc();
  const { heapUsed, external } = Deno.memoryUsage();
  return heapUsed + external;
}
