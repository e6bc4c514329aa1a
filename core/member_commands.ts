/** Commands that were asked at this node, until each has its one reply. */
import type { Command, CommandReply } from "./commands.ts";
import { AppError, type ErrorCode } from "./errors.ts";
import { type CommandId, type NodeId, taskIdOf } from "./ids.ts";
import type { IntentKey } from "./intent_key.ts";
import { compareEpochs, type Epoch, type Stamp } from "./lineage.ts";
import { accepted, rejected } from "./master.ts";
import { hasStamp, isSynced } from "./member_log.ts";
import { execute, liveFollowers } from "./member_master.ts";
import {
  dropMessage,
  type Member,
  type PendingCommand,
  send,
  type Turn,
  update,
} from "./member_state.ts";
import type { MessageOf } from "./protocol.ts";
import { drop, put, type State } from "./state.ts";
import type { Millis } from "./units.ts";

type Answer = NonNullable<PendingCommand["answer"]>;

/** Commands that wait at one node; a further one is refused. */
export const PENDING_COMMANDS_MAX = 1_024;

/** How long a command may take. */
export const COMMAND_TIMEOUT_MS = 10_000;

/** How often a command is sent to the master until it answers. */
export const COMMAND_RETRY_MS = 500;

/** How long a master's own client waits for a second node to have its events (D15). */
export const REPLICATE_WAIT_MS = 1_000;

/** A command, asked here. One that waits already is not asked twice. */
export function commandAsked(turn: Turn, command: Command): void {
  const { pending } = turn.member;
  if (pending.has(command.commandId)) return;
  if (pending.size >= PENDING_COMMANDS_MAX) {
    const found = `${pending.size} commands wait for the master, fewer needed`;
    return reply(turn, refused(command, "queue_full", `Cannot take ${command.type}: ${found}`));
  }
  const { uptime } = turn.context;
  const target = stampOf(turn.member.state, command);
  setPending(turn, { command, askedAt: uptime, sendAt: uptime, ...(target ? { target } : {}) });
}

/** A follower asks; a command of another epoch is refused and never executed. */
export function commandRequested(
  turn: Turn,
  from: NodeId,
  { epoch, command }: MessageOf<"CommandRequest">,
): void {
  const { reign } = turn.member;
  if (!reign) return dropMessage(turn);
  if (compareEpochs(epoch, reign.epoch) !== 0) {
    const message = `Cannot do ${command.type}: it was asked in a stale epoch, ${epoch.clock}; ` +
      `epoch ${reign.epoch.clock} reigns`;
    const reply = refused(command, "not_ready", message);
    return send(turn, from, { type: "CommandAnswer", epoch: reign.epoch, reply });
  }
  const reply = execute(turn, command);
  send(turn, from, { type: "CommandAnswer", epoch, reply });
}

/** The master's answer. One of an epoch in which the command was not sent last says nothing. */
export function commandAnswered(
  turn: Turn,
  from: NodeId,
  { epoch, reply }: MessageOf<"CommandAnswer">,
): void {
  const pending = turn.member.pending.get(reply.commandId);
  const isAwaited = pending?.epoch !== undefined && !pending.answer &&
    compareEpochs(pending.epoch, epoch) === 0;
  if (!isAwaited || from !== epoch.nodeId) return dropMessage(turn);
  answered(turn, pending, { epoch, reply });
}

function answered(
  turn: Turn,
  pending: PendingCommand,
  { epoch, reply }: { epoch: Epoch; reply: CommandReply },
): void {
  if (reply.type === "CommandRejected") return settle(turn, reply);
  setPending(turn, { ...pending, answer: { reply, epoch, at: turn.context.uptime } });
}

/** Sends, looks up, answers and gives up what waits. */
export function settleCommands(turn: Turn): void {
  for (const pending of turn.member.pending.values()) settleCommand(turn, pending);
}

function settleCommand(turn: Turn, pending: PendingCommand): void {
  const { member, context: { uptime } } = turn;
  const { command, answer, epoch } = pending;
  if (answer && isKept(member, answer)) {
    if (isReplicated(turn, answer)) settle(turn, answer.reply);
    return;
  }
  if (uptime >= pending.askedAt + COMMAND_TIMEOUT_MS) {
    const message = `Cannot tell what became of ${command.type}: the master did not answer ` +
      `within ${COMMAND_TIMEOUT_MS / 1_000} s`;
    return settle(turn, refused(command, "timed_out", message));
  }
  if (!member.epoch || !isSynced(member) || member.role === "candidate") return;
  const isSent = epoch !== undefined;
  if (!isSent || compareEpochs(epoch, member.epoch) === 0) {
    if (!answer && uptime >= pending.sendAt) sendCommand(turn, pending, member.epoch);
    return;
  }
  afterChange(turn, pending, member.epoch);
}

/** Whether the log of this node has what a command did. */
function isKept({ state }: Member, { reply, epoch }: Answer): boolean {
  return reply.idx < 0 || hasStamp(state, { epoch, idx: reply.idx });
}

/** On a follower's disk an event has two copies; the master waits for one, for a while. */
function isReplicated({ member, context: { uptime } }: Turn, { reply, at }: Answer): boolean {
  const { reign } = member;
  if (!reign || uptime >= at + REPLICATE_WAIT_MS) return true;
  const live = liveFollowers(reign, uptime);
  return live.length === 0 || live.some(([, { idx }]) => idx >= reply.idx);
}

function sendCommand(turn: Turn, pending: PendingCommand, epoch: Epoch): void {
  const { command } = pending;
  const { reign, following } = turn.member;
  const sent = { ...pending, epoch, sendAt: turn.context.uptime + COMMAND_RETRY_MS };
  setPending(turn, sent);
  if (reign) {
    answered(turn, sent, { epoch, reply: execute(turn, command) });
  } else if (following) {
    send(turn, following.master, { type: "CommandRequest", epoch, command });
  }
}

/**
 * A new master reigns, and nobody knows whether the old one executed the command. What it would
 * have made is looked for; what can be repeated without harm is sent anew.
 */
function afterChange(turn: Turn, pending: PendingCommand, epoch: Epoch): void {
  const { command } = pending;
  const { state } = turn.member;
  const outcome = outcomeIn(state, pending);
  const { answer: _, ...rest } = pending;
  if (outcome === "repeat") {
    return sendCommand(turn, { ...rest, sendAt: turn.context.uptime }, epoch);
  }
  if (outcome !== "lost") {
    return settle(turn, accepted(command, state.lastEventAppliedIdx, { events: [], ...outcome }));
  }
  const message = `Cannot tell what became of ${command.type}: the master changed before it ` +
    `answered, and the new one knows nothing of it`;
  settle(turn, refused(command, "master_changed", message));
}

/** The thing that a command deletes, if it is one that does. */
function deletedBy(command: Command): IntentKey | undefined {
  switch (command.type) {
    case "DeleteInstance":
      return `instance:${command.instanceId}`;
    case "DeleteCustomModelCard":
      return `card:${command.modelId}`;
    case "DeleteInstanceLink":
      return `link:${command.linkId}`;
    case "DeleteMetaInstance":
      return `meta:${command.metaInstanceId}`;
    default:
      return undefined;
  }
}

/** Where in the history the thing was set that a command deletes; undefined: it is not there. */
function stampOf({ stamps }: State, command: Command): Stamp | undefined {
  const key = deletedBy(command);
  return key === undefined ? undefined : stamps.get(key);
}

type Outcome = "repeat" | "lost" | Omit<Parameters<typeof accepted>[2], "events">;

/** What became of a command of an earlier epoch, as far as the new state tells. */
function outcomeIn(state: State, { command, target }: PendingCommand): Outcome {
  const made = (isThere: boolean, ids: Exclude<Outcome, string> = {}): Outcome =>
    isThere ? ids : "lost";
  switch (command.type) {
    case "PlaceInstance":
      return made(state.instances.has(command.instanceId), { instanceId: command.instanceId });
    case "CreateInstance": {
      const { instanceId } = command.instance;
      return made(state.instances.has(instanceId), { instanceId });
    }
    case "TextGeneration":
    case "ImageGeneration":
    case "ImageEdits": {
      const task = state.tasks.get(taskIdOf(command.commandId));
      return task ? { instanceId: task.instanceId } : "lost";
    }
    case "AddCustomModelCard":
      return made(state.customModelCards.has(command.modelCard.modelId));
    case "SetInstanceLink":
      return made(state.instanceLinks.has(command.linkId));
    case "CreateMetaInstance": {
      const { metaInstanceId } = command.metaInstance;
      return made(state.metaInstances.has(metaInstanceId), { metaInstanceId });
    }
    case "DeleteInstance":
    case "DeleteCustomModelCard":
    case "DeleteInstanceLink":
    case "DeleteMetaInstance": {
      // A thing that this history has never heard of may yet come with a branch: it is not gone.
      const isKnown = target !== undefined && hasStamp(state, target);
      return isKnown && !stampOf(state, command) ? {} : "repeat";
    }
    case "TaskCancelled":
    case "TaskFinished":
    case "RetryMetaInstance":
    case "MergeLineage":
      return "repeat";
    // deno-coverage-ignore-start
    default:
      return command satisfies never;
      // deno-coverage-ignore-stop
  }
}

/** When a command has to be looked at if nobody speaks. */
export function commandsWakeAt(member: Member): Millis[] {
  const canSend = isSynced(member) && member.role !== "candidate";
  return [...member.pending.values()].flatMap(({ askedAt, sendAt, answer }) => {
    if (answer && member.reign) return [answer.at + REPLICATE_WAIT_MS];
    return [askedAt + COMMAND_TIMEOUT_MS, ...(canSend && !answer ? [sendAt] : [])];
  });
}

function refused(command: Command, code: ErrorCode, message: string): CommandReply {
  const hint = "ask again; exo status shows what there is";
  return rejected(command, new AppError(code, message, { hint }));
}

function settle(turn: Turn, answer: CommandReply): void {
  update(turn, { pending: drop(turn.member.pending, answer.commandId) });
  reply(turn, answer);
}

function reply(turn: Turn, reply: CommandReply): void {
  turn.said.push({ type: "Reply", reply });
}

function setPending(turn: Turn, pending: PendingCommand): void {
  const commandId: CommandId = pending.command.commandId;
  update(turn, { pending: put(turn.member.pending, commandId, pending) });
}
