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

/** At SIGUSR2 leaves in the file `EXO_LIVE_BYTES_FILE` what this process holds. */
export function tellLiveBytes(): void {
  const file = Deno.env.get("EXO_LIVE_BYTES_FILE");
  if (file === undefined) throw new Error("EXO_LIVE_BYTES_FILE is not set");
  Deno.addSignalListener("SIGUSR2", async () => {
    await Deno.writeTextFile(`${file}.new`, `${await liveBytes()}`);
    // Renamed, so that whoever waits for the file reads all of it.
    await Deno.rename(`${file}.new`, file);
  });
}
