import { stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { AppError } from "../core/errors.ts";
import { systemReason } from "./system_error.ts";

/** Is there once somebody has been shown how to use exo. */
const MARKER_FILE = "onboarding_complete";

/** Whether the first steps with this node are done, kept as a file of its data directory. */
export class Onboarding {
  readonly #path: string;

  constructor(dataDir: string) {
    this.#path = join(dataDir, MARKER_FILE);
  }

  async isCompleted(): Promise<boolean> {
    return await stat(this.#path).then(() => true, () => false);
  }

  /** @throws {AppError} `storage_failed` when it cannot be kept. */
  async complete(): Promise<void> {
    try {
      await writeFile(this.#path, "", { mode: 0o600 });
    } catch (cause) {
      const message = `Cannot note that the first steps are done: ${systemReason(cause)}, ` +
        "a data directory that can be written needed";
      throw new AppError("storage_failed", message, {
        hint: "make the disk of the node's data directory writable, then ask again",
        cause,
      });
    }
  }
}
