import { createHash } from "node:crypto";
import { clientOf } from "../core/fair_share.ts";
import { CLIENT_CHARS_MAX } from "../core/task.ts";

/** Hexadecimal digits that tell users apart: 64 bits. */
const DIGITS = 16;

/** So that there is room for the user beside it. */
const ADDRESS_CHARS_MAX = CLIENT_CHARS_MAX - clientOf("", "0".repeat(DIGITS)).length;

/**
 * Who asks, so that an instance shares its time evenly: the address as the tenant, and the user for
 * whom a program asks, as a hash, since it may be a person's name. The API key is not in it: a node
 * has one for all. Undefined when nothing is known.
 */
export function clientName(
  { remoteAddress, user }: { remoteAddress?: string | undefined; user?: string | undefined },
): string | undefined {
  const hash = user && createHash("sha256").update(user).digest("hex").slice(0, DIGITS);
  if (!remoteAddress && !hash) return undefined;
  // The end of an address tells more of it than its beginning.
  const tenant = (remoteAddress ?? "").slice(-ADDRESS_CHARS_MAX);
  return clientOf(tenant, hash || undefined);
}
