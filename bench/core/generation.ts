/** What nodes tell each other of a generation; its prompt and its tokens go other ways (D3). */
import { CommandId, type InstanceId, type TaskId, taskIdOf } from "../../core/ids.ts";
import type { Machine, MemberCluster } from "./member_cluster.ts";

/** A generation that is asked for at a node. */
export interface GenerationPlan {
  readonly api: Machine;
  /** No two have the same. */
  readonly name: string;
  /** How long the runner works on it. */
  readonly durationMs: number;
}

/** One generation, from the command until it is forgotten. */
export function generate(cluster: MemberCluster, plan: GenerationPlan): void {
  const { api, name } = plan;
  const commandId = CommandId.parse(name);
  const taskId = taskIdOf(commandId);
  cluster.report(api, (facts) => ({
    ...facts,
    followedTasks: new Set(facts.followedTasks).add(taskId),
  }));
  const [instance] = api.member.state.instances.values();
  if (!instance) throw new Error("nothing is placed");
  const { modelId } = instance.shardAssignments;
  const command = { type: "TextGeneration" as const, commandId, modelId, apiNodeId: api.nodeId };
  cluster.submit(api, command, (reply) => {
    if (reply.type === "CommandAccepted" && reply.instanceId) {
      serve(cluster, plan, { taskId, instanceId: reply.instanceId });
    } else throw new Error(`a generation was refused: ${JSON.stringify(reply)}`);
  });
}

/** The worker's part, and then the API node's last word. */
function serve(
  cluster: MemberCluster,
  { api, name, durationMs }: GenerationPlan,
  { taskId, instanceId }: { taskId: TaskId; instanceId: InstanceId },
): void {
  const instance = api.member.state.instances.get(instanceId);
  const [worker] = cluster.machines
    .filter(({ nodeId }) => instance?.shardAssignments.nodeToRunner[nodeId] !== undefined);
  if (!worker) return;
  const tell = (taskStatus: "Running" | "Complete") =>
    cluster.report(worker, (facts) => ({
      ...facts,
      reports: new Map(facts.reports).set(`task:${taskId}`, {
        ...{ type: "TaskStatusUpdated", taskId, taskStatus },
      }),
    }));
  cluster.after(20, () => tell("Running"));
  cluster.after(durationMs, () => tell("Complete"));
  cluster.after(durationMs + 20, () => {
    const commandId = CommandId.parse(name.replace("generation", "finished.."));
    const command = { type: "TaskFinished" as const, commandId };
    const finishedCommandId = CommandId.parse(name);
    cluster.submit(api, { ...command, finishedCommandId }, () => {
      for (const machine of [api, worker]) {
        cluster.report(machine, ({ reports, followedTasks, ...facts }) => ({
          ...facts,
          reports: new Map([...reports].filter(([subject]) => subject !== `task:${taskId}`)),
          followedTasks: new Set([...followedTasks].filter((id) => id !== taskId)),
        }));
      }
    });
  });
}
