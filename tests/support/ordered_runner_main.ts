/**
 * A runner, with the engine that `EXO_ENGINE` names, that obeys the orders of a test
 * (`orders.ts`, in the folder `EXO_TEST_FOLDER`) beside those of its node.
 */
import { encodeFrame } from "../../core/frame_codec.ts";
import type { RunnerCommand, RunnerReport } from "../../core/frames.ts";
import type { GroupSpec } from "../../core/group.ts";
import { TaskId } from "../../core/ids.ts";
import { toAppError } from "../../core/errors.ts";
import { CommandQueue } from "../../engines/command_queue.ts";
import { FakeScript, strike } from "../../engines/fake.ts";
import { readCommands, reportWriter } from "../../engines/pipes.ts";
import { chooseBuilder } from "../../engines/process.ts";
import { Runner } from "../../engines/runner.ts";
import { FLOOD_BYTES, type HeldStage, Orders } from "./orders.ts";
import { StruckBuilder } from "./struck_engine.ts";

const orders = new Orders(Deno.env.get("EXO_TEST_FOLDER") ?? "");
const incarnation = Number(Deno.args[Deno.args.indexOf("--incarnation") + 1]);
const commands = new CommandQueue();
const { emit: report, write, flush } = reportWriter();
let stage: HeldStage | "start" = "start";

/** Which commands of ours have no end yet, by their tasks. */
const illegal = new Map<TaskId, RunnerCommand["type"]>();

/** Reports, and tells the test of what was refused. */
function emit(said: RunnerReport): void {
  report(said);
  if (said.type !== "TaskUpdated") return;
  const command = illegal.get(said.taskId);
  if (command === undefined) return;
  illegal.delete(said.taskId);
  // Refused is what fails without having begun.
  if (said.taskStatus === "Failed") orders.tellRefused(command);
}

/** Says of tasks that nobody knows that they run, which the node reads and forgets. */
function flood(): void {
  const taskId = TaskId.parse("unknown".padEnd(128, "-"));
  const said = { type: "TaskUpdated", incarnation, taskId, taskStatus: "Running" } as const;
  const frameBytes = encodeFrame(said).length;
  for (let bytes = 0; bytes < FLOOD_BYTES; bytes += frameBytes) report(said);
}

/** No runner does this now: it has met its group, or has nothing to warm up yet. */
function illegalCommand(): RunnerCommand {
  const task = { taskId: TaskId.parse(crypto.randomUUID()), incarnation };
  if (stage === "connect" || stage === "start") return { type: "StartWarmup", ...task };
  const hosts = [{ ip: "127.0.0.1", port: 1 }, { ip: "127.0.0.1", port: 2 }];
  const link = { type: "ring" as const, hosts };
  const group = { groupId: "none", rank: 0, size: 2, names: ["a", "b"], link };
  return { type: "ConnectToGroup", ...task, group };
}

function obey(): void {
  if (orders.take("flood")) flood();
  if (orders.take("illegal")) {
    const command = illegalCommand();
    illegal.set(command.taskId, command.type);
    commands.push(command);
  }
  if (orders.take("exhaust")) strike(FakeScript.parse({ exhaustIn: "decode" }), "decode", write);
}

function reach(reached: HeldStage): void {
  stage = reached;
  orders.stayIn(reached, obey);
}

/** It can be held before it meets anybody, too: afterwards the others are connected. */
class OrderedBuilder extends StruckBuilder {
  override connect(spec: GroupSpec): Promise<void> {
    reach("connect");
    return super.connect(spec);
  }
}

Deno.addSignalListener("SIGTERM", () => Deno.exit(0));
try {
  readCommands(commands);
  const inner = await chooseBuilder(write);
  const builder = new OrderedBuilder(inner, reach, ({ inside }) => !orders.gathers(inside));
  orders.watch(obey);
  const breathe = () => builder.breathe();
  await new Runner({ incarnation, builder, commands, emit, breathe, now: () => performance.now() })
    .run();
  await flush();
  Deno.exit(0);
} catch (cause) {
  emit({ type: "RunnerError", incarnation, reason: toAppError(cause, "load_failed").message });
  await flush();
  Deno.exit(1);
}
