import type { GatheredInfo } from "../../core/node_info.ts";
import type { InfoSources } from "./sources.ts";

/** What each part of the gatherer works with. */
export interface Gathering {
  readonly sources: InfoSources;
  /** Ends all that goes on, and all processes. */
  readonly signal: AbortSignal;
  /** A fact; the same one again is not told. */
  tell(info: GatheredInfo): void;
}

/** What `work` gives; undefined when it has not after `timeoutMs`, or `signal` says so. */
export async function inTime<T>(
  work: Promise<T>,
  { sources, signal, timeoutMs }: {
    readonly sources: Pick<InfoSources, "wait">;
    readonly signal: AbortSignal;
    readonly timeoutMs: number;
  },
): Promise<T | undefined> {
  const over = new AbortController();
  const late = sources.wait(timeoutMs, AbortSignal.any([signal, over.signal]));
  try {
    return await Promise.race([work, late.then(() => undefined)]);
  } finally {
    over.abort();
  }
}
