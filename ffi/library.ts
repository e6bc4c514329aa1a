/** Finds the compiled library, or tells every place that was tried. */
import { fileURLToPath } from "node:url";
import { SetupError } from "./errors.ts";
import { exists, nativeLayout } from "./layout.ts";

/**
 * The path of the compiled shim: the one EXO_MLX_LIBRARY names, else the one the setup made.
 * @throws {SetupError} if there is none.
 */
export function findLibrary(): string {
  const named = Deno.env.get("EXO_MLX_LIBRARY");
  const { libraryPath } = named ? { libraryPath: named } : nativeLayout();
  if (exists(libraryPath)) return libraryPath;
  const wanted = "Cannot find the MLX shim of this machine";
  if (named) {
    throw new SetupError(
      `${wanted}: nothing at "${libraryPath}", which EXO_MLX_LIBRARY names, a library needed`,
      "unset EXO_MLX_LIBRARY for the one that exo setup makes, or name one that is there",
    );
  }
  throw new SetupError(
    `${wanted}: nothing at any of EXO_MLX_LIBRARY (not set), ${libraryPath}`,
    `compile it with: deno task setup (or: ${setupCommand()})`,
  );
}

function setupCommand(): string {
  const script = new URL("setup.ts", import.meta.url);
  return `deno run -A ${script.protocol === "file:" ? fileURLToPath(script) : script.href}`;
}
