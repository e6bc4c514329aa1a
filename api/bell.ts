/** Tells somebody who waits that there is news; rings that nobody heard yet are kept, as one. */
export class Bell {
  #ring = Promise.withResolvers<void>();

  ring(): void {
    this.#ring.resolve();
  }

  /** Resolves once it has rung since it was heard last. */
  async heard(): Promise<void> {
    await this.#ring.promise;
    this.#ring = Promise.withResolvers<void>();
  }
}
