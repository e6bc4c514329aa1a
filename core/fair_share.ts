/** What a generated token counts against one that is read: it is computed with less company. */
export const GENERATED_TOKEN_WEIGHT = 2;

/** Clients whose work is remembered after their last request, those who left last. */
export const CLIENTS_REMEMBERED_MAX = 1024;

/** Between the parts of a client's name: the tenant, and one of its users. */
const USER_MARK = "/";

/** What a client is called: one of the users of a tenant, or the tenant itself. */
export function clientOf(tenant: string, user: string | undefined): string {
  return user === undefined ? tenant : `${tenant}${USER_MARK}${user}`;
}

/** The tenant that a client belongs to, however many users it names. */
export function tenantOf(client: string): string {
  const [tenant = ""] = client.split(USER_MARK, 1);
  return tenant;
}

/** Where one stands among those that an engine serves. */
export interface Turn {
  /** Work that it has had, in tokens. */
  readonly served: number;
  /** Requests of others that were admitted while its own waited, since its own last one was. */
  readonly passed: number;
}

/** Where a client stands: its tenant among the tenants, and itself among its tenant's users. */
export interface Standing {
  readonly tenant: Turn;
  readonly user: Turn;
}

const NEW: Turn = { served: 0, passed: 0 };

/**
 * How much work each client has had: virtual token counters (arXiv:2401.00588), for tenants, and
 * for the users within each, so that nobody has more for naming many users.
 */
export class FairShare {
  readonly #tenants = new Turns();
  readonly #users = new Map<string, Turns>();

  /** A request of the client has come. */
  arrive(client: string): void {
    const tenant = tenantOf(client);
    const users = this.#users.get(tenant) ?? new Turns();
    this.#users.set(tenant, users);
    this.#tenants.arrive(tenant);
    users.arrive(client);
  }

  /** A request of the client was given a place, and these clients have requests that wait on. */
  admitted(client: string, waiting: Iterable<string>): void {
    const tenant = tenantOf(client);
    const others = new Set(waiting);
    this.#tenants.admitted(tenant, new Set([...others].map(tenantOf)));
    const users = [...others].filter((other) => tenantOf(other) === tenant);
    this.#users.get(tenant)?.admitted(client, users);
  }

  /** A request of the client is over. */
  leave(client: string): void {
    const tenant = tenantOf(client);
    const users = this.#users.get(tenant);
    users?.leave(client);
    if (users?.isEmpty) this.#users.delete(tenant);
    this.#tenants.leave(tenant);
  }

  /** Tokens were computed for the client. */
  charge(client: string, tokens: { readonly read: number; readonly generated: number }): void {
    const tenant = tenantOf(client);
    const work = tokens.read + GENERATED_TOKEN_WEIGHT * tokens.generated;
    this.#tenants.charge(tenant, work);
    this.#users.get(tenant)?.charge(client, work);
  }

  /** Where the client stands. */
  standing(client: string): Standing {
    const tenant = tenantOf(client);
    const user = this.#users.get(tenant)?.turn(client) ?? NEW;
    return { tenant: this.#tenants.turn(tenant), user };
  }
}

/**
 * Turns of those who have requests. Who comes begins where the one with least work stands, so that
 * nobody saves up a claim by being away, or further on if it had more, so that nobody is rid of its
 * work by leaving for a moment.
 */
class Turns {
  readonly #present = new Map<string, { served: number; passed: number; requests: number }>();
  /** Work of those who left while others stayed, in the order of their leaving. */
  readonly #left = new Map<string, number>();

  get isEmpty(): boolean {
    return this.#present.size === 0;
  }

  arrive(name: string): void {
    const known = this.#present.get(name);
    if (known) {
      known.requests++;
      return;
    }
    const served = Math.max(this.#left.get(name) ?? 0, this.#least());
    this.#left.delete(name);
    this.#present.set(name, { served, passed: 0, requests: 1 });
  }

  admitted(name: string, waiting: Iterable<string>): void {
    for (const other of waiting) {
      const passed = this.#present.get(other);
      if (passed) passed.passed++;
    }
    const known = this.#present.get(name);
    if (known) known.passed = 0;
  }

  leave(name: string): void {
    const known = this.#present.get(name);
    if (!known || --known.requests > 0) return;
    this.#present.delete(name);
    this.#left.set(name, known.served);
    const [first] = this.#left.keys();
    if (first !== undefined && this.#left.size > CLIENTS_REMEMBERED_MAX) this.#left.delete(first);
    // With nobody there to compare it with, the past says nothing.
    if (this.isEmpty) this.#left.clear();
  }

  charge(name: string, work: number): void {
    const known = this.#present.get(name);
    if (known) known.served += work;
  }

  turn(name: string): Turn {
    return this.#present.get(name) ?? NEW;
  }

  #least(): number {
    let least = Infinity;
    for (const { served } of this.#present.values()) least = Math.min(least, served);
    return least === Infinity ? 0 : least;
  }
}
