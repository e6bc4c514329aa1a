import type { Stream } from "@libp2p/interface";

/**
 * One end of a stream in memory that delivers at once: as much of libp2p's as the network's own
 * streams use. What a test does with `raw` a peer of any kind could do.
 */
export class FakeStream extends EventTarget {
  /** Bytes that wait to be written, as the owner is to see them. */
  writeBufferLength = 0;
  writableNeedsDrain = false;
  readStatus: "readable" | "paused" | "closed" = "readable";
  isOpen = true;
  /** What the owner has written. */
  readonly written: Uint8Array[] = [];
  #other: FakeStream | undefined;
  #unread: Uint8Array[] = [];
  #isHeard = false;

  /** Two ends of one stream. */
  static pair(): readonly [FakeStream, FakeStream] {
    const [a, b] = [new FakeStream(), new FakeStream()];
    [a.#other, b.#other] = [b, a];
    return [a, b];
  }

  /** As its owner takes it. */
  get stream(): Stream {
    return this as unknown as Stream;
  }

  send(bytes: Uint8Array): boolean {
    if (!this.isOpen) throw new Error("the stream is closed");
    this.written.push(bytes);
    this.#other?.deliver(bytes);
    return true;
  }

  /** As libp2p's: what comes waits for the first who listens. */
  override addEventListener(...args: Parameters<EventTarget["addEventListener"]>): void {
    super.addEventListener(...args);
    if (args[0] !== "message") return;
    this.#isHeard = true;
    queueMicrotask(() => this.#dispatch());
  }

  /** Bytes come from the other end. */
  deliver(bytes: Uint8Array): void {
    if (!this.isOpen) return;
    this.#unread.push(bytes);
    if (this.readStatus === "readable" && this.#isHeard) this.#dispatch();
  }

  pause(): void {
    this.readStatus = "paused";
  }

  resume(): void {
    if (this.readStatus !== "paused") throw new Error("it is not paused");
    this.readStatus = "readable";
    this.#dispatch();
  }

  /** The other end writes nothing more. */
  closeWriteOfPeer(): void {
    this.dispatchEvent(new Event("remoteCloseWrite"));
  }

  abort(_cause: Error): void {
    if (!this.isOpen) return;
    this.isOpen = false;
    this.dispatchEvent(new Event("close"));
    this.#other?.abort(_cause);
  }

  close(): Promise<void> {
    this.#other?.closeWriteOfPeer();
    return Promise.resolve();
  }

  onDrain(): Promise<void> {
    return new Promise((resolve) => this.addEventListener("drain", () => resolve()));
  }

  #dispatch(): void {
    for (const bytes of this.#unread.splice(0)) {
      this.dispatchEvent(Object.assign(new Event("message"), { data: bytes }));
    }
  }
}
