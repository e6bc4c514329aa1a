import { createHash } from "node:crypto";
import { CLIENT_CHARS_MAX } from "../core/task.ts";

/** Hexadecimal digits that tell users apart: 64 bits. */
const DIGITS = 16;

/**
 * Who asks, so that an instance shares its time evenly: the address, and beside it the user for
 * whom a program asks, as a hash, since it may be a person's name. The API key is not in it: a node
 * has one for all. Undefined when nothing is known.
 */
export function clientName(
  { remoteAddress, user }: { remoteAddress?: string | undefined; user?: string | undefined },
): string | undefined {
  const hash = user && createHash("sha256").update(user).digest("hex").slice(0, DIGITS);
  const parts = [remoteAddress, hash && `user ${hash}`].filter((part) => Boolean(part));
  return parts.length === 0 ? undefined : parts.join(" ").slice(-CLIENT_CHARS_MAX);
}
