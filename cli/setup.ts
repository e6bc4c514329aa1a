import { z } from "zod";
import { ensureSetup } from "../ffi/setup.ts";
import { defineCommand } from "./command.ts";
import { AppError } from "../core/errors.ts";
import { interruptible, setupFailed } from "./host.ts";

/** `exo setup`. */
export const setup = defineCommand({
  name: "setup",
  summary: "Fetch MLX and compile the shim for this machine",
  description: "Does nothing when both are there; every command that computes does it by itself",
  example: ["setup", "setup --json"],
  isLocal: true,
  args: z.object({}),
  json: z.strictObject({
    libraryPath: z.string().describe("The compiled shim"),
    stamp: z.string().describe("Changes with whatever it was made of"),
  }),
  async run({ out, io }) {
    try {
      const made = await interruptible(ensureSetup({ onProgress: (line) => out.note(line) }), io);
      out.result(made, `Ready: ${made.libraryPath}`);
    } catch (cause) {
      throw cause instanceof AppError ? cause : setupFailed(cause);
    }
  },
});
