/** How many events a second a node folds into its state: `deno run bench/core/apply.ts`. */
import { Event } from "../../core/events.ts";
import { InstanceId, NodeId } from "../../core/ids.ts";
import { busyCluster, committed, taskCreated } from "./busy_cluster.ts";

/** The cluster of the bar: 100 nodes, 1,000 tasks in flight. */
export const APPLY_CLUSTER = {
  nodes: 100,
  edgesPerNode: 10,
  instances: 50,
  ranksPerInstance: 2,
  tasks: 1_000,
};

/** Events a second that a node must fold at least. */
export const EVENTS_PER_SECOND_MIN = 10_000;

/** Events that are folded at once and timed together; what a request makes is five of them. */
const EVENTS = 10_000;

/** Rounds that are timed; the best counts, since the machine has other work. */
const ROUNDS = 5;

/** Folds what requests make: a task that is created, runs, completes and goes. */
export function eventsPerSecond({ cluster = APPLY_CLUSTER, events = EVENTS } = {}): number {
  const start = busyCluster(cluster);
  const stream = requests(events);
  const seconds = Array.from({ length: ROUNDS }, () => {
    const from = performance.now();
    stream.reduce(committed, start);
    return (performance.now() - from) / 1_000;
  });
  return events / Math.min(...seconds);
}

/** Events of requests, one request after the other. */
function requests(count: number): Event[] {
  const instanceId = InstanceId.parse("instance-0");
  const nodeId = NodeId.parse("node-0");
  return Array.from({ length: Math.ceil(count / 5) }, (_, n) => {
    const taskId = `task-new-${n}`;
    const created = taskCreated(n, instanceId, nodeId);
    const runner = { type: "RunnerStatusUpdated", runnerId: "instance-0:0", incarnation: 1, at: n };
    return [
      { ...created, task: { ...(created as { task: object }).task, taskId } },
      { type: "TaskStatusUpdated", taskId, taskStatus: "Running" },
      { ...runner, status: { type: "RunnerRunning" } },
      { type: "TaskStatusUpdated", taskId, taskStatus: "Complete" },
      { type: "TaskDeleted", taskId },
    ].map((event) => Event.parse(event));
  }).flat().slice(0, count);
}

if (import.meta.main) {
  const line = `${JSON.stringify({ eventsPerSecond: Math.round(eventsPerSecond()) })}\n`;
  Deno.stdout.writeSync(new TextEncoder().encode(line));
}
