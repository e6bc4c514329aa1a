import type { RunnerCommand } from "../core/frames.ts";
import { groupSpecOf } from "../core/group.ts";
import type { NodeId, TaskId } from "../core/ids.ts";
import { nodeNames } from "../core/placement_view.ts";
import type { Action } from "../core/plan.ts";
import type { State } from "../core/state.ts";
import type { Rank } from "./rank.ts";
import type { SideChannels } from "./side_channel.ts";

type ConnectToGroup = Extract<RunnerCommand, { type: "ConnectToGroup" }>;

/** What a rank is sent to its group with. */
interface ConnectDeps {
  readonly nodeId: NodeId;
  readonly state: State;
  readonly taskId: TaskId;
  /** Over which groups over RDMA find each other; absent: by their coordinator. */
  readonly sideChannels: SideChannels | undefined;
}

/** Tells a rank where and whom to meet; what keeps it from that ends it, with the reason. */
export async function connectRank(
  { runnerId, instance, peers }: Extract<Action, { type: "ConnectToGroup" }>,
  rank: Rank,
  { nodeId, state, taskId, sideChannels }: ConnectDeps,
): Promise<void> {
  rank.peers = peers;
  const { incarnation } = rank;
  const incarnations = new Map([...peers, [runnerId, incarnation]]);
  const group = groupSpecOf(instance, { nodeId, incarnations, names: nodeNames(state) });
  if (!group) return rank.refuse("the instance does not say where its ranks meet");
  const command = { type: "ConnectToGroup" as const, taskId, incarnation, group };
  if (group.link.type !== "jaccl" || !sideChannels) return rank.command(command);
  rank.reserve(taskId);
  await connectBeside(command, rank, sideChannels);
}

/** With pipes over which the rank finds the others. */
async function connectBeside(
  command: ConnectToGroup,
  rank: Rank,
  sideChannels: SideChannels,
): Promise<void> {
  const { instanceId } = rank;
  const { group } = command;
  const owner = { instanceId, generation: group.groupId };
  try {
    const channel = await sideChannels.open(owner, (reason) => rank.refuse(reason));
    if (group.link.type !== "jaccl") return;
    if (!rank.takeSideChannel(channel)) return await channel.close();
    const link = { ...group.link, sideChannel: channel.pipes };
    rank.command({ ...command, group: { ...group, link } });
  } catch (cause) {
    rank.refuse(cause instanceof Error ? cause.message : String(cause));
  }
}
