/** How long a runner process may take for what, and how it is ended. */
import type { ErrorCode } from "../core/errors.ts";
import { FRAME_BYTES_MAX } from "../core/frames.ts";
import type { ReadProcess } from "./process_state.ts";

/**
 * How long a command may wait for its acknowledgement: many steps of a slow model. No later command
 * prolongs it.
 */
export const ACK_TIMEOUT_MS = 30_000;

/** Bytes of commands that may wait in front of a runner that does not read them. */
export const UNREAD_BYTES_MAX = 2 * FRAME_BYTES_MAX;

/** Times of the stop ladder, each counted from the step before. */
export interface StopLadder {
  /** How long the runner may take to leave by itself; 0 goes to SIGTERM at once. */
  readonly askMs: number;
  /** How long after SIGTERM it gets SIGKILL. */
  readonly termMs: number;
}

/** For deleting an instance (spec worker §18). */
export const LADDER_DELETE: StopLadder = { askMs: 3_000, termMs: 5_000 };

/** For the node's own end (design, Stopping). */
export const LADDER_NODE_STOP: StopLadder = { askMs: 0, termMs: 1_500 };

/**
 * How long a runner that uses RDMA may take to end before it gets SIGKILL, which may leave the
 * device unusable (spec worker S8).
 */
export const RDMA_TERM_MS = 30_000;

/**
 * A runner that answers nothing for so long, and neither computes nor waits for another rank,
 * hangs. More than the five seconds after which a group itself names a rank that is silent: who
 * waits for that one is to say so.
 */
export const HANG_MS = 5_500;

/** The same where the system says nothing of processes, as macOS: it may compute all the while. */
export const UNSEEN_HANG_MS = 30_000;

/** How long a runner's next sign of life is waited for. */
export interface RunnerLimit {
  readonly ms: number;
  /** Why it is killed then. */
  readonly reason: () => string;
  /** What its clients are told, where that is not its own failure. */
  readonly code?: ErrorCode;
}

/** What tests shorten, and what kind of process it is. */
export interface RunnerLimits {
  readonly ackTimeoutMs?: number;
  readonly livenessMs?: number;
  readonly hangMs?: number;
  readonly unseenHangMs?: number;
  readonly readProcess?: ReadProcess | undefined;
  /** Whether it uses RDMA; then it gets so long after SIGTERM. */
  readonly rdmaTermMs?: number | undefined;
}
