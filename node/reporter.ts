import { getLogger } from "@logtape/logtape";
import type { Event } from "../core/events.ts";
import type { NodeId } from "../core/ids.ts";
import { encodeMessage, REPORT } from "../net/topics.ts";
import type { Transport } from "../net/transport.ts";

const log = getLogger(["exo", "reporter"]);

/** How long the master may take to store a report. */
const REPORT_TIMEOUT_MS = 5_000;

/** Wait before a report that failed is sent again. */
const REPORT_RETRY_MS = 1_000;

/** Reports of one message at most. */
const REPORT_BATCH_MAX = 256;

/** Refusals of one report before it is given up, so that the later ones get their turn. */
const REPORT_ATTEMPTS_MAX = 600;

/** Tells the master what this node has seen: in order, and again until it is in the log. */
export class Reporter {
  readonly #transport: Transport;
  readonly #master: () => NodeId;
  #queue: { event: Event; done: () => void }[] = [];
  #sending = false;
  /** How often the first report of the queue has been refused. */
  #refusals = 0;
  #stopped = false;
  #wake: (() => void) | undefined;

  constructor(transport: Transport, master: () => NodeId) {
    this.#transport = transport;
    this.#master = master;
  }

  /** Resolves when the event is in the log, or this node stops. */
  report(event: Event): Promise<void> {
    if (this.#stopped) return Promise.resolve();
    return new Promise((done) => {
      this.#queue.push({ event, done });
      if (!this.#sending) void this.#drain();
    });
  }

  stop(): void {
    this.#stopped = true;
    this.#wake?.();
    for (const { done } of this.#queue.splice(0)) done();
  }

  async #drain(): Promise<void> {
    this.#sending = true;
    while (this.#queue.length > 0 && !this.#stopped) {
      // After a refusal one at a time: the others need not suffer for it.
      const batch = this.#queue.slice(0, this.#refusals > 0 ? 1 : REPORT_BATCH_MAX);
      const body = encodeMessage(batch.map(({ event }) => event));
      try {
        const options = { timeoutMs: REPORT_TIMEOUT_MS };
        await this.#transport.request(this.#master(), REPORT.protocol, body, options);
        this.#settle(batch.length);
      } catch (cause) {
        log.warn("the master did not take {count} reports: {reason}", {
          count: batch.length,
          reason: String(cause),
        });
        if (++this.#refusals >= REPORT_ATTEMPTS_MAX) this.#giveUp();
        else await this.#pause();
      }
    }
    this.#sending = false;
  }

  #giveUp(): void {
    log.error("gave up a report after {attempts} attempts: {event}", {
      attempts: this.#refusals,
      event: JSON.stringify(this.#queue[0]?.event),
    });
    this.#settle(1);
  }

  #settle(count: number): void {
    this.#refusals = 0;
    for (const { done } of this.#queue.splice(0, count)) done();
  }

  async #pause(): Promise<void> {
    if (this.#stopped) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, REPORT_RETRY_MS);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}
