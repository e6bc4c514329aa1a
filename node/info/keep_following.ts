import { getLogger } from "@logtape/logtape";
import type { CommandWords } from "./command.ts";
import type { InfoSources } from "./sources.ts";

const log = getLogger(["exo", "info"]);

/** Silence after which a command that should go on is started anew (spec §5). */
export const SILENCE_MS = 30_000;

/** Waits before a command is started again: doubled each time that it says nothing of use. */
export const RESTART_MS = 1_000;

/** The longest of them. */
export const RESTART_MS_MAX = 60_000;

/**
 * Follows a command that goes on for as long as the node does, and starts it again when it ends.
 * Resolves when there is no such program, or `signal` says so.
 */
export async function keepFollowing(
  words: CommandWords,
  { sources, signal, onLine, onEnd }: {
    readonly sources: Pick<InfoSources, "follow" | "wait">;
    readonly signal: AbortSignal;
    /** Whether the line was of use. */
    readonly onLine: (line: string) => boolean;
    readonly onEnd: () => void;
  },
): Promise<void> {
  let pauseMs = RESTART_MS;
  while (!signal.aborted) {
    const { isMissing, reason } = await sources.follow(words, {
      silenceMs: SILENCE_MS,
      signal,
      onLine: (line) => {
        if (onLine(line)) pauseMs = RESTART_MS;
      },
    });
    onEnd();
    if (isMissing || signal.aborted) return;
    log.warn("{program} is started again in {pauseMs} ms: {reason}", {
      program: words[0],
      pauseMs,
      reason,
    });
    await sources.wait(pauseMs, signal);
    pauseMs = Math.min(2 * pauseMs, RESTART_MS_MAX);
  }
}
