/** One try to have a request answered, and what becomes of the answer when it fails. */
import { type Chunk, isTerminal } from "../core/chunk.ts";
import type { ErrorCode } from "../core/errors.ts";
import type { CommandId } from "../core/ids.ts";

/** How long a client whose answer is complete waits for the cluster to forget its task. */
export const FINISH_WAIT_MS = 1_000;

/** A generation that its runner has accepted; see `api/gateway.ts`. */
export interface AcceptedGeneration {
  readonly commandId: CommandId;
  readonly promptTokens: number;
  readonly chunks: AsyncIterable<Chunk>;
}

/** The same, with what ends it. */
export interface Attempt extends AcceptedGeneration {
  readonly chunks: AsyncGenerator<Chunk>;
  /** Forgets the task everywhere; cancels it when it has not ended. */
  finish(): Promise<void>;
}

/** Failures that are none of the request itself: another instance may serve it. */
const MOVABLE: ReadonlySet<ErrorCode> = new Set([
  "runner_failed",
  "group_broken",
  "node_lost",
  "node_unreachable",
  "instance_removed",
]);

/** Whether a request that failed so may be given to another instance. */
export function isMovable(code: ErrorCode): boolean {
  return MOVABLE.has(code);
}

/**
 * Yields up to the last chunk; leaving early cancels. Where nothing of the answer has been said yet,
 * however much of the prompt was read, a failure is passed over: `again` gives another attempt, if
 * there is one.
 */
export async function* follow(
  first: Attempt,
  again: () => Promise<Attempt | undefined>,
): AsyncGenerator<Chunk> {
  let attempt = first;
  let hasSpoken = false;
  try {
    for (let next = await attempt.chunks.next(); !next.done; next = await attempt.chunks.next()) {
      const chunk = next.value;
      const isPassedOver = !hasSpoken && chunk.type === "Error" && isMovable(chunk.error.code);
      const other = isPassedOver ? await again() : undefined;
      if (other) {
        void attempt.finish();
        attempt = other;
        continue;
      }
      hasSpoken ||= chunk.type !== "PrefillProgress";
      yield chunk;
      if (isTerminal(chunk)) return;
    }
  } finally {
    await within(attempt.finish(), FINISH_WAIT_MS);
  }
}

/** Waits for some work, but not for long: it goes on by itself. */
async function within(work: Promise<void>, ms: number): Promise<void> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<void>((resolve) => timer = setTimeout(resolve, ms));
  await Promise.race([work, late]);
  clearTimeout(timer);
}
