import { getLogger } from "@logtape/logtape";
import { admit } from "../core/admission.ts";
import type { Command, CommandReply } from "../core/commands.ts";
import type { Event, IndexedEvent } from "../core/events.ts";
import type { Epoch } from "../core/lineage.ts";
import { InstanceId, type ModelId } from "../core/ids.ts";
import { accepted, decide, rejected } from "../core/master.ts";
import type { Telemetry } from "../core/telemetry.ts";
import { type CardLookup, cardsWanted } from "../core/meta_instance_placement.ts";
import { NO_TRIES, type PlacementTries } from "../core/placement_turns.ts";
import { nextReconcileAt, reconcileAll } from "../core/reconcile.ts";
import { COMMAND, decodeMessage, encodeMessage, GLOBAL_EVENTS, REPORT } from "../net/topics.ts";
import type { Transport } from "../net/transport.ts";
import type { Clock } from "./clock.ts";
import type { EventLog } from "./event_log.ts";
import type { Replica } from "./replica.ts";

const log = getLogger(["exo", "master"]);

/** Wait before the reconcilers try again what could not be stored. */
const RECONCILE_RETRY_MS = 5_000;

/** Longest time between two looks of the reconcilers while something waits. */
const RECONCILE_MS_MAX = 1_000;

/** Gives commands and reports their place in the log: the one author of its epoch. */
export class Master {
  readonly #deps: MasterDeps;
  readonly #stops: (() => void)[] = [];
  #timer: ReturnType<typeof setTimeout> | undefined;
  #tries: PlacementTries = NO_TRIES;

  constructor(deps: MasterDeps) {
    this.#deps = deps;
  }

  start(): void {
    const { transport } = this.#deps;
    this.#stops.push(
      transport.handle(COMMAND.protocol, (body) => {
        const reply = this.#command(decodeMessage(COMMAND.request, body));
        return Promise.resolve(encodeMessage(reply));
      }),
      transport.handle(REPORT.protocol, (body) => {
        for (const event of decodeMessage(REPORT.request, body)) this.#report(event);
        return Promise.resolve(encodeMessage({}));
      }),
    );
    this.#reconcileOrRetry();
  }

  stop(): void {
    for (const stop of this.#stops) stop();
    clearTimeout(this.#timer);
  }

  #command(command: Command): CommandReply {
    const { replica, clock, telemetry } = this.#deps;
    try {
      const decision = decide(replica.state, command, {
        telemetry: telemetry(),
        now: clock.now(),
      });
      this.#commit(decision.events);
      return accepted(command, replica.state.lastEventAppliedIdx, decision);
    } catch (reason) {
      const reply = rejected(command, reason);
      log.debug("{type} rejected: {reply}", { type: command.type, reply });
      return reply;
    }
  }

  #report(event: Event): void {
    this.#commit(admit(this.#deps.replica.state, event));
  }

  #commit(events: readonly Event[]): void {
    if (events.length === 0) return;
    this.#store(events);
    this.#reconcileOrRetry();
  }

  /** Stores, applies and publishes in one synchronous step: nothing is decided on a stale state. */
  #store(events: readonly Event[]): void {
    const { replica, eventLog, epoch, transport } = this.#deps;
    const first = replica.state.lastEventAppliedIdx + 1;
    const indexed = events.map((event, i): IndexedEvent => ({ idx: first + i, epoch, event }));
    eventLog.append(indexed);
    replica.apply(indexed);
    transport.publish(GLOBAL_EVENTS.topic, encodeMessage(indexed));
    try {
      eventLog.compact(replica.state, epoch);
    } catch (cause) {
      // The events are stored and applied: the tail is longer for it, and nothing is lost.
      log.error("cannot compact the log: {reason}", { reason: String(cause) });
    }
  }

  /** Lets the reconcilers act until they are content, then sleeps until they want to look again. */
  #reconcile(): void {
    const { replica, clock, telemetry, lookUpCard } = this.#deps;
    clearTimeout(this.#timer);
    const wanted = cardsWanted(replica.state, new Map());
    const context = {
      telemetry: telemetry(),
      now: clock.now(),
      uptime: clock.uptime(),
      cards: new Map(wanted.map((modelId) => [modelId, lookUpCard(modelId)])),
      freshId: InstanceId.parse(clock.newId()),
      tries: this.#tries,
    };
    this.#tries = reconcileAll(replica.state, context, (events) => {
      for (const event of events) log.warn("reconciled: {event}", { event: JSON.stringify(event) });
      this.#store(events);
      return replica.state;
    });
    const at = nextReconcileAt(replica.state, context);
    if (at !== undefined) this.#lookAgain(Math.max(at - context.uptime, 1));
  }

  #lookAgain(delayMs: number): void {
    clearTimeout(this.#timer);
    const delay = Math.min(delayMs, RECONCILE_MS_MAX);
    this.#timer = setTimeout(() => this.#reconcileOrRetry(), delay);
  }

  /** What the reconcilers cannot store is their own concern, not that of the event before. */
  #reconcileOrRetry(): void {
    try {
      this.#reconcile();
    } catch (cause) {
      log.error("cannot reconcile: {reason}", { reason: String(cause) });
      this.#lookAgain(RECONCILE_RETRY_MS);
    }
  }
}

/** What a master works with. */
export interface MasterDeps {
  readonly replica: Replica;
  readonly eventLog: EventLog;
  readonly transport: Transport;
  readonly clock: Clock;
  readonly epoch: Epoch;
  readonly telemetry: () => Telemetry;
  /** The card of a model, as far as this node knows it. */
  readonly lookUpCard: (modelId: ModelId) => CardLookup;
}
