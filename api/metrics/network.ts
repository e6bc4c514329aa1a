import { Counter, Gauge, type Registry } from "prom-client";
import type { Gateway } from "../gateway.ts";

/** How many nodes there are to talk to, and whether talking to them keeps up. */
export function registerNetworkMetrics(registry: Registry, gateway: Gateway): void {
  const registers = [registry];
  new Gauge({
    name: "exo_network_peers",
    help: "Nodes that this one has a connection with",
    registers,
    collect() {
      this.set(gateway.network().peerCount);
    },
  });
  new Counter({
    name: "exo_network_dropped_total",
    help: "Messages to or from other nodes that were given up because a queue was full",
    registers,
    collect() {
      this.reset();
      this.inc(gateway.network().droppedCount);
    },
  });
}
