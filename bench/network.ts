import { AppError } from "../core/errors.ts";
import type { StartedProcess } from "./processes.ts";

/** Longest wait for a server that has been started. */
const HEALTHY_MS_MAX = 600_000;

/** Between two looks: little beside the times that are measured, and cheap. */
const LOOK_MS = 2;

/** Lines of a log that an error message shows. */
const LOG_LINES_SHOWN = 8;

/** A port of this machine that nobody listens on. */
export function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return (listener.addr as Deno.NetAddr).port;
}

/**
 * Resolves when `url` answers with a status of success. Otherwise the process does not go on.
 * @throws {AppError} when the process ends first, or after ten minutes.
 */
export async function whenHealthy(url: string, process: StartedProcess): Promise<void> {
  let exitCode: number | undefined;
  process.ended.then((code) => exitCode = code, () => exitCode = -1);
  const until = performance.now() + HEALTHY_MS_MAX;
  while (performance.now() < until) {
    if (exitCode !== undefined) throw await neverHealthy(url, `exit code ${exitCode}`, process);
    try {
      const { ok, body } = await fetch(url);
      await body?.cancel();
      if (ok) return;
    } catch {
      // Nobody listens yet.
    }
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
  await process.stop();
  throw await neverHealthy(url, `no answer in ${HEALTHY_MS_MAX / 1_000} s`, process);
}

async function neverHealthy(url: string, found: string, process: StartedProcess) {
  const log = await Deno.readTextFile(process.logPath).catch(() => "");
  const said = log.trim().split("\n").slice(-LOG_LINES_SHOWN).join("\n");
  return new AppError(
    "setup_failed",
    `Cannot start a server: found ${found}, an answer at ${url} needed; it said\n${said}`,
    { hint: `all that it said is in ${process.logPath}` },
  );
}
