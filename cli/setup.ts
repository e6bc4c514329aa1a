import { z } from "zod";
import { ensureSetup } from "../ffi/setup.ts";
import { defineCommand } from "./command.ts";
import { setupFailed } from "./host.ts";

/** `exo setup`. */
export const setup = defineCommand({
  name: "setup",
  summary: "Fetch MLX and compile the shim for this machine",
  description: "Does nothing when both are there; every command that computes does it by itself",
  example: ["setup", "setup --json"],
  isLocal: true,
  args: z.object({}),
  async run({ out }) {
    try {
      const made = await ensureSetup({ onProgress: (line) => out.note(line) });
      out.result(made, `Ready: ${made.libraryPath}`);
    } catch (cause) {
      throw setupFailed(cause);
    }
  },
});
