import type { InstanceId } from "../../core/ids.ts";
import { isReady } from "../../core/master.ts";
import { RunnerProcess } from "../../node/runner_process.ts";
import { RUNNER_MAIN } from "../support/programs.ts";
import { writeScript } from "../support/test_node.ts";
import { chatWith } from "./chat_fields.ts";
import { tellTyped } from "./command_line.ts";
import type { Told } from "./told.ts";
import type { World } from "./world.ts";

const PLACE = "/place_instance?wait=ready";

/** Instances that do not come up, and what their users are told. */
export async function instances(world: World): Promise<Told[]> {
  const place = (name: string, model_id: string) =>
    world.tell({ name, path: PLACE, body: { model_id } });
  const data = `${world.dir}/data`;
  const told: Told[] = [];
  await writeScript(data, { failIn: "load" });
  told.push(await place("a runner that cannot load", "other-1b"));
  const chat = { name: "a chat with an instance that failed", path: "/v1/chat/completions" };
  told.push(await world.tell({ ...chat, body: chatWith({ model: "other-1b" }) }));
  const env = { EXO_URL: world.url };
  const create = (name: string, flags: string) =>
    tellTyped({ name, argv: ["instance", "create", "other-2b", ...flags.split(" ")] }, { env });
  told.push(await create("a command that waits for it", "--wait"));
  told.push(await create("a wait that is too short", "--wait --timeout 0.001"));
  await Deno.writeTextFile(`${data}/fake.json`, "{");
  told.push(await place("EXO_ENGINE_SCRIPT that is no JSON", "other-2b"));
  told.push(await waited(world));
  await writeScript(data, {});
  for (const id of waiting(world)) await world.deleteInstance(id);
  return [...told, await unknownEngine()];
}

/** The instances that are not ready. */
function waiting({ node }: World): InstanceId[] {
  const state = node.state();
  return [...state.instances.values()].filter((instance) => !isReady(state, instance))
    .map(({ instanceId }) => instanceId);
}

/** The last message of a stream that follows an instance which nobody creates. */
async function waited(world: World): Promise<Told> {
  const query = "instance_id=nobody&until=exists&timeout_seconds=0.01";
  const response = await fetch(`${world.url}/instance/await?${query}`);
  const last = (await response.text()).trim().split("\n").at(-1) ?? "";
  const { type, message } = JSON.parse(last.replace(/^data: /, ""));
  const by = `GET /instance/await?${query}`;
  return {
    name: "a wait that is over",
    by,
    outcome: `${response.status}, stream ${type}`,
    message,
  };
}

/** What a runner says that is told to run an engine which does not exist. */
async function unknownEngine(): Promise<Told> {
  const { promise, resolve } = Promise.withResolvers<string>();
  new RunnerProcess(
    {
      command: Deno.execPath(),
      args: ["run", "-A", "--no-check", RUNNER_MAIN],
      env: { ...Deno.env.toObject(), EXO_ENGINE: "steam" },
    },
    1,
    {
      report: () => {},
      ending: () => {},
      failed: ({ reason }) => resolve(reason),
      stopped: () => resolve("stopped"),
    },
  );
  const message = await promise;
  return { name: "EXO_ENGINE that nobody knows", by: "exo runner", outcome: "it ends", message };
}
