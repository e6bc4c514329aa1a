/**
 * exo, which at SIGUSR2 leaves in the file `EXO_LIVE_BYTES_FILE` what is alive in it after a full
 * garbage collection; it needs `--v8-flags=--expose-gc`.
 */
import { tellLiveBytes } from "./live_bytes.ts";

tellLiveBytes();
await import("../../main.ts");
