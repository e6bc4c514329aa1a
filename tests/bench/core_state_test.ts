import assert from "node:assert/strict";
import { eventsPerSecond } from "../../bench/core/apply.ts";
import { busyCluster } from "../../bench/core/busy_cluster.ts";
import { snapshotInstall } from "../../bench/core/snapshot.ts";
import { encodeState } from "../../core/state.ts";

const SMALL = { nodes: 5, edgesPerNode: 2, instances: 3, ranksPerInstance: 2, tasks: 7 };

Deno.test("the busy cluster has what its size says, and all of it serves", () => {
  const { nodes, connections, instances, runners, tasks } = busyCluster(SMALL);
  const edges = [...connections.values()].map((sinks) => sinks.size);
  assert.deepEqual([nodes.size, instances.size, runners.size, tasks.size], [5, 3, 6, 7]);
  assert.deepEqual(edges, [2, 2, 2, 2, 2]);
  assert.ok([...runners.values()].every(({ status }) => status.type === "RunnerReady"));
});

Deno.test("the benchmarks of the state measure on a cluster of any size", () => {
  assert.ok(eventsPerSecond({ cluster: SMALL, events: 12 }) > 0);
  const { bytes, installMs, encodeMs } = snapshotInstall({ cluster: SMALL });
  assert.equal(bytes, encodeState(busyCluster(SMALL)).length);
  assert.ok(installMs >= 0 && encodeMs >= 0);
});
