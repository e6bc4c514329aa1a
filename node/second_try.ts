/** The wait for somebody who may answer what an instance has failed. */
import type { ModelId, NodeId } from "../core/ids.ts";
import { type GivenTo, outlookOf } from "../core/second_try.ts";
import type { Millis } from "../core/units.ts";
import type { Transport } from "../net/transport.ts";
import type { Clock } from "./clock.ts";
import type { Replica } from "./replica.ts";

/**
 * How long after it has asked a client may wait for an instance that is being made anew, or cannot
 * be reached: where there is none by then, it hears why soon enough (`ACCEPT_TIMEOUT_MS`).
 */
export const REMADE_WAIT_MS = 6_000;

/** How long an instance that nobody says anything of is doubted after it has failed a request. */
export const DOUBT_MS = 1_000;

/** What tells of instances, and of who can be reached. */
export interface SecondTryDeps {
  readonly clock: Pick<Clock, "uptime">;
  readonly replica: Replica;
  readonly transport: Pick<Transport, "self" | "peers" | "onPeer">;
}

/** Resolves once somebody may answer, or there is nothing to wait for, at the latest at `until`. */
export async function untilServed(
  deps: SecondTryDeps,
  { modelId, failed, until, signal }: {
    readonly modelId: ModelId;
    readonly failed: GivenTo;
    readonly until: Millis;
    readonly signal: AbortSignal;
  },
): Promise<void> {
  const { clock, replica, transport } = deps;
  const isReachable = (id: NodeId) => id === transport.self || transport.peers().has(id);
  const doubtedUntil = clock.uptime() + DOUBT_MS;
  while (!signal.aborted) {
    const now = clock.uptime();
    const outlook = outlookOf(replica.state, { modelId, failed, isReachable });
    // Word of its end may be on its way.
    const isDoubted = outlook === "same" && now < doubtedUntil;
    if (now >= until || (outlook !== "later" && !isDoubted)) return;
    await change(deps, Math.min(until, isDoubted ? doubtedUntil : until) - now, signal);
  }
}

/** Resolves once the state, or who can be reached, has changed, or after `ms`. */
async function change(
  { replica, transport }: SecondTryDeps,
  ms: number,
  signal: AbortSignal,
): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const wake = () => resolve();
  const timer = setTimeout(wake, ms);
  const stops = [replica.onChange(wake), transport.onPeer(wake)];
  signal.addEventListener("abort", wake);
  await promise;
  signal.removeEventListener("abort", wake);
  clearTimeout(timer);
  for (const stop of stops) stop();
}
