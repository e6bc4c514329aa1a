import { getLogger } from "@logtape/logtape";
import type { InfoSources } from "./sources.ts";

const log = getLogger(["exo", "info"]);

/**
 * Does `work` at once and then again and again, `everyMs` after its end, until it says `over` or
 * `signal` does. What goes wrong is logged once for as long as it stays the same, and the next time is another try.
 */
export async function repeat(
  what: string,
  work: () => Promise<"over" | void>,
  { everyMs, sources, signal }: {
    /** A function where it depends on what was found. */
    readonly everyMs: number | (() => number);
    readonly sources: Pick<InfoSources, "wait">;
    readonly signal: AbortSignal;
  },
): Promise<void> {
  let last: string | undefined;
  while (!signal.aborted) {
    try {
      if (await work() === "over") return;
      last = undefined;
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause);
      if (reason !== last && !signal.aborted) {
        log.warn("cannot find out {what}: {reason}", { what, reason });
      }
      last = reason;
    }
    await sources.wait(typeof everyMs === "number" ? everyMs : everyMs(), signal);
  }
}
