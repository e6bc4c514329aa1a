import { AppError } from "../core/errors.ts";
import type { NodeId } from "../core/ids.ts";
import { MESSAGE_BYTES_MAX } from "./transport.ts";

/** Longest name of a protocol or topic, in bytes of UTF-8. */
export const NAME_BYTES_MAX = 64;

/** @throws {AppError} `invalid_request` when a protocol or topic has a name that no peer takes. */
export function checkName(name: string): void {
  const { length } = new TextEncoder().encode(name);
  if (length > 0 && length <= NAME_BYTES_MAX) return;
  throw new AppError(
    "invalid_request",
    `Cannot send to "${name}": its name has ${length} bytes, 1 to ${NAME_BYTES_MAX} needed`,
  );
}

/** @throws {AppError} `payload_too_large` when a message has more than so many bytes. */
export function checkSize(message: Uint8Array, where: string, bytesMax = MESSAGE_BYTES_MAX): void {
  if (message.length <= bytesMax) return;
  throw new AppError(
    "payload_too_large",
    `Cannot send ${message.length} bytes to ${where}: ${bytesMax} at most`,
  );
}

/** There is no way to a node, or it knows no such protocol. */
export function unreachable(peer: NodeId, protocol: string): AppError {
  return new AppError("node_unreachable", `Cannot reach node ${peer} for ${protocol}`, {
    hint: "exo status shows the nodes that are up",
  });
}

/** A node has not answered in time. */
export function tooLate(peer: NodeId, protocol: string, timeoutMs: number): AppError {
  const message = `Node ${peer} did not answer ${protocol} within ${timeoutMs} ms`;
  return new AppError("timed_out", message, {
    hint: "exo status shows whether it is up; ask again once it is",
  });
}
