/** What is said of a group that does not stand, or stands no more: always who, and what to do. */
import { AppError } from "../core/errors.ts";
import type { GroupSpec } from "../core/group.ts";

type Names = Pick<GroupSpec, "names">;

const RESTARTS = "the instance restarts by itself; exo status shows which nodes are there";

/** A rank by its number and its node's name. */
export function rankName({ names }: Names, rank: number): string {
  return `Rank ${rank} on "${names[rank] ?? "?"}"`;
}

/** A rank that has not come in time. */
export function didNotConnect(names: Names, rank: number, timeoutMs: number): AppError {
  const message = `${rankName(names, rank)} did not connect within ${timeoutMs / 1000} s`;
  const hint = "see that its node runs, and that no firewall keeps the ports of --ring-ports shut";
  return new AppError("group_broken", message, { hint });
}

/** A rank whose process has ended, or whose machine says that it has. */
export function closedBy(names: Names, rank: number): AppError {
  const message = `${rankName(names, rank)} has closed the connection`;
  return new AppError("group_broken", message, { hint: RESTARTS });
}

/** A rank that does not show that it lives. */
export function silentFor(names: Names, rank: number, silentMs: number): AppError {
  const message = `${rankName(names, rank)} has been silent for ${silentMs / 1000} s`;
  return new AppError("group_broken", message, { hint: RESTARTS });
}

/** An address that cannot be had. */
export function cannotListen(ip: string, port: number, cause: unknown): AppError {
  const found = cause instanceof Deno.errors.AddrInUse
    ? "address in use"
    : cause instanceof Error
    ? cause.message
    : String(cause);
  return new AppError("group_broken", `Cannot listen at ${ip}:${port}: ${found}`, {
    hint: "the next attempt takes another port; exo serve --ring-ports A-B says which",
    cause,
  });
}
