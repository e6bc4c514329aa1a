import type { InstanceId, NodeId } from "../core/ids.ts";
import type { State } from "../core/state.ts";
import type { Telemetry } from "../core/telemetry.ts";
import type { Bulk } from "../net/bulk.ts";
import type { Transport } from "../net/transport.ts";
import { PrefillAsker } from "./prefill_asker.ts";
import { PrefillRings } from "./prefill_rings.ts";
import { PrefillServer } from "./prefill_server.ts";
import type { Rank } from "./rank.ts";

/** What a node shares the reading of prompts with. */
export interface PrefillDeps {
  readonly nodeId: NodeId;
  readonly transport: Transport;
  readonly bulk: Bulk;
  readonly telemetry: () => Telemetry;
  readonly state: () => State;
  readonly newId: () => string;
}

/** Prompts that this node has read elsewhere, and those that it reads for others. */
export class Prefills {
  readonly asker: PrefillAsker;
  readonly server: PrefillServer;
  readonly #rings = new PrefillRings();

  constructor(deps: PrefillDeps, rankOf: (instanceId: InstanceId) => Rank | undefined) {
    this.asker = new PrefillAsker({ ...deps, rings: this.#rings });
    const links = () => [...deps.state().instanceLinks.values()];
    const isLinked = (instanceId: InstanceId) =>
      links().some(({ prefillInstances }) => prefillInstances.includes(instanceId));
    this.server = new PrefillServer({ ...deps, rings: this.#rings, rankOf, isLinked });
  }

  /** A runner is gone, and with it what it asked for and served. */
  drop(rank: Rank): void {
    this.asker.drop(rank);
    this.server.drop(rank);
  }

  close(): void {
    this.server.close();
    this.#rings[Symbol.dispose]();
  }
}
