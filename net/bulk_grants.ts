import { AppError } from "../core/errors.ts";
import type { Millis } from "../core/units.ts";
import { type BulkPurpose, GRANTS_MAX, GRANTS_PER_PEER_MAX } from "./bulk_messages.ts";

interface Grant {
  readonly peer: string;
  readonly purpose: BulkPurpose;
  readonly expiresAt: Millis;
}

/** Tokens that were given out and not yet shown: each opens one connection, for one purpose. */
export class BulkGrants {
  readonly #grants = new Map<string, Grant>();

  /** @throws {AppError} `queue_full` when too many wait for their connection. */
  add(token: string, grant: Grant, now: Millis): void {
    for (const [other, { expiresAt }] of this.#grants) {
      if (now >= expiresAt) this.#grants.delete(other);
    }
    const ofPeer = [...this.#grants.values()].filter(({ peer }) => peer === grant.peer).length;
    if (ofPeer >= GRANTS_PER_PEER_MAX || this.#grants.size >= GRANTS_MAX) {
      const waiting = `${this.#grants.size} transfers wait for their connection, ${ofPeer} of them`;
      throw new AppError(
        "queue_full",
        `Cannot open a transfer for ${grant.peer}: ${waiting} of this node; ` +
          `${GRANTS_MAX} may, and ${GRANTS_PER_PEER_MAX} of one node`,
        { hint: "ask again in 10 s" },
      );
    }
    this.#grants.set(token, grant);
  }

  /** What `token` is good for, once; undefined when it was used, is too old or never given. */
  take(token: string, now: Millis): BulkPurpose | undefined {
    const grant = this.#grants.get(token);
    this.#grants.delete(token);
    return grant && now < grant.expiresAt ? grant.purpose : undefined;
  }
}
