import { join } from "node:path";
import type { InstallContext } from "./peer.ts";

/** Written at the end of an installation; holds what it was made for. */
const COMPLETE = ".complete";

/**
 * The folder `name` of the peers' folder, filled by `install` unless that was done before for the
 * same `fingerprint`. What an installation left that did not end is removed first.
 */
export async function installOnce(
  name: string,
  { fingerprint = "", ...context }: InstallContext & { readonly fingerprint?: string },
  install: (folder: string, context: InstallContext) => Promise<void>,
): Promise<string> {
  const folder = join(context.folder, name);
  if (await textOf(join(folder, COMPLETE)) === fingerprint) return folder;
  await Deno.remove(folder, { recursive: true }).catch(ifMissing);
  await Deno.mkdir(folder, { recursive: true });
  await install(folder, context);
  await Deno.writeTextFile(join(folder, COMPLETE), fingerprint);
  return folder;
}

async function textOf(path: string): Promise<string | undefined> {
  try {
    return await Deno.readTextFile(path);
  } catch (error) {
    return ifMissing(error);
  }
}

function ifMissing(error: unknown): undefined {
  if (!(error instanceof Deno.errors.NotFound)) throw error;
}
