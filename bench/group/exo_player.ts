import { join } from "node:path";
import { ApiClient } from "../../api/client.ts";
import { AppError } from "../../core/errors.ts";
import { NODE_V8_FLAGS } from "../../core/v8_flags.ts";
import { whenHealthy } from "../network.ts";
import type { StartedProcess } from "../processes.ts";
import { ROOT } from "../setting.ts";
import type { Layout } from "./layout.ts";
import type { Player, RunningGroup, Stage } from "./player.ts";

/** Every node has a machine of its own, so that its port may be fixed. */
const API_PORT = 52_415;

/** Longest that nodes may take to find each other, and an instance to be ready. */
const MEET_MS_MAX = 60_000;
const READY_SECONDS_MAX = 600;

/** Between two looks at who has met. */
const LOOK_MS = 50;

interface MachineNode {
  readonly client: ApiClient;
  readonly nodeId: string;
  readonly process: StartedProcess;
}

/** Exo from this checkout, in one layout: a node on each machine. */
export function exoPlayer(stage: Stage, layout: Layout): Player {
  return {
    program: "exo",
    layout,
    async start(): Promise<RunningGroup> {
      const namespace = `bench-${crypto.randomUUID()}`;
      const machines = stage.network.machines.slice(0, layout.ranks);
      const started = await Promise.allSettled(
        machines.map((machine) => startOn(stage, machine, namespace)),
      );
      const nodes = started.flatMap((one) => one.status === "fulfilled" ? [one.value] : []);
      const stop = async () => void await Promise.all(nodes.map(({ process }) => process.stop()));
      try {
        for (const one of started) if (one.status === "rejected") throw one.reason;
        await met(nodes);
        const model = await place(stage, layout, nodes);
        return { url: (nodes[0] as MachineNode).client.url, model, stop };
      } catch (error) {
        await stop();
        throw error;
      }
    },
  };
}

async function startOn(
  { network, setting, threads }: Stage,
  machine: number,
  namespace: string,
): Promise<MachineNode> {
  const { processes, scratch, logs, signal } = setting;
  const dataDir = await Deno.makeTempDir({ dir: scratch, prefix: "node-" });
  const serve = ["serve", "-q", "--port", `${API_PORT}`, "--data-dir", dataDir];
  const alone = ["--name", `machine-${machine}`, "--namespace", namespace, "--libp2p-port", "0"];
  const flags = `--v8-flags=${NODE_V8_FLAGS.join(",")}`;
  const run = [Deno.execPath(), "run", "-A", flags, join(ROOT, "main.ts")];
  const [program = "", ...args] = [...network.wrap(machine), ...run, ...serve, ...alone];
  const logPath = join(logs, `exo-${machine}.log`);
  const env = { EXO_THREADS: `${threads}` };
  const process = processes.start(program, args, { logPath, env });
  const url = `http://127.0.0.1:${await network.door(machine, API_PORT)}`;
  await whenHealthy(`${url}/readyz`, process);
  const client = new ApiClient({ url, apiKey: undefined, signal });
  return { client, nodeId: await client.nodeId(), process };
}

/** Resolves once each node knows of a way from each to each, and how wide it is. */
async function met(nodes: readonly MachineNode[]): Promise<void> {
  const ids = nodes.map(({ nodeId }) => nodeId);
  const until = performance.now() + MEET_MS_MAX;
  while (performance.now() < until) {
    const states = await Promise.all(nodes.map(({ client }) => client.state()));
    // Finding out sends megabytes, which are none of a token's.
    const haveMet = states.every(({ topology: { connections } }) =>
      ids.every((a) =>
        ids.every((b) =>
          a === b || connections[a]?.[b]?.some((edge) => edge.bandwidthBitsPerSecond !== undefined)
        )
      )
    );
    if (haveMet) return;
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
  const found = `no measured way between all of them in ${MEET_MS_MAX / 1_000} s`;
  throw new AppError("setup_failed", `Cannot measure ${ids.length} nodes: ${found}, one needed`, {
    hint: "what they said is in the folder logs beside the peers",
  });
}

async function place(
  { modelPath, smallModelPath, streams, contextTokens }: Stage,
  { ranks, sharding, isOfSmallModel }: Layout,
  nodes: readonly MachineNode[],
): Promise<string> {
  const path = isOfSmallModel ? smallModelPath : modelPath;
  let model = "";
  for (const { client } of nodes) model = (await client.addModel(path)).id;
  const { client } = nodes[0] as MachineNode;
  const { instanceId } = await client.placeInstance({
    ...{
      model,
      sharding,
      minNodes: ranks,
      exact: true,
      nodeIds: nodes.map(({ nodeId }) => nodeId),
    },
    config: { contextTokens, maxConcurrentRequests: streams },
  });
  const wait = client.awaitInstance({ instanceId }, { timeoutSeconds: READY_SECONDS_MAX });
  for await (const _ of wait);
  return model;
}
