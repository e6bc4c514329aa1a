/** What a generated token counts against one that is read: it is computed with less company. */
export const GENERATED_TOKEN_WEIGHT = 2;

/**
 * How much work each client has had: virtual token counters (arXiv:2401.00588). Only clients with
 * requests are kept. One that comes begins where the one with least work stands, so that nobody
 * saves up a claim by being away.
 */
export class FairShare {
  readonly #clients = new Map<string, { served: number; requests: number }>();

  /** A request of the client has come. */
  arrive(client: string): void {
    const known = this.#clients.get(client);
    if (known) known.requests++;
    else this.#clients.set(client, { served: this.#least(), requests: 1 });
  }

  /** A request of the client is over. */
  leave(client: string): void {
    const known = this.#clients.get(client);
    if (known && --known.requests === 0) this.#clients.delete(client);
  }

  /** Tokens were computed for the client. */
  charge(client: string, tokens: { readonly read: number; readonly generated: number }): void {
    const known = this.#clients.get(client);
    if (known) known.served += tokens.read + GENERATED_TOKEN_WEIGHT * tokens.generated;
  }

  /** Work that the client has had, in tokens. */
  served(client: string): number {
    return this.#clients.get(client)?.served ?? 0;
  }

  #least(): number {
    const all = [...this.#clients.values()].map(({ served }) => served);
    return all.length > 0 ? Math.min(...all) : 0;
  }
}
