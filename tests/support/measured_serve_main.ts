/**
 * exo, which at SIGUSR2 leaves in the file `EXO_LIVE_BYTES_FILE` what is alive in it after a full
 * garbage collection; it needs `--v8-flags=--expose-gc`.
 */
import { liveBytes } from "./live_bytes.ts";

const file = Deno.env.get("EXO_LIVE_BYTES_FILE");
if (file === undefined) throw new Error("EXO_LIVE_BYTES_FILE is not set");
Deno.addSignalListener("SIGUSR2", async () => {
  await Deno.writeTextFile(`${file}.new`, `${await liveBytes()}`);
  // Renamed, so that whoever waits for the file reads all of it.
  await Deno.rename(`${file}.new`, file);
});
await import("../../main.ts");
