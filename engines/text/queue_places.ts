import { tenantOf } from "../../core/fair_share.ts";
import { clientQueueFull, queueFull } from "../refusals.ts";

/** Generations that may wait for their turn. */
export const QUEUED_MAX = 256;

/** Of them, those of one tenant, so that there is always a place for others. */
export const QUEUED_PER_TENANT_MAX = 192;

/** Of those, the ones of a user whom the tenant names, so that its others have a place. */
export const QUEUED_PER_USER_MAX = 144;

/**
 * Whether a client's request finds a place behind those that wait.
 * @throws {AppError} `queue_full` where it finds none.
 */
export function requirePlace(queue: readonly { readonly client: string }[], client: string): void {
  const waiting = queue.length;
  if (waiting >= QUEUED_MAX) throw queueFull(waiting, QUEUED_MAX);
  const tenant = tenantOf(client);
  const own = queue.filter((one) => tenantOf(one.client) === tenant);
  const ofUser = own.filter((one) => one.client === client).length;
  if (own.length >= QUEUED_PER_TENANT_MAX) {
    throw clientQueueFull(own.length, QUEUED_PER_TENANT_MAX);
  }
  if (client !== tenant && ofUser >= QUEUED_PER_USER_MAX) {
    throw clientQueueFull(ofUser, QUEUED_PER_USER_MAX);
  }
}
