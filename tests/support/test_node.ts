import type { z } from "zod";
import type { Chunk } from "../../core/chunk.ts";
import { CommandId, InstanceId, ModelId } from "../../core/ids.ts";
import { isReady } from "../../core/master.ts";
import type { Backend, ModelCard } from "../../core/model_card.ts";
import { EMPTY_STATE, type State } from "../../core/state.ts";
import type { TextGenerationPayload } from "../../core/task.ts";
import { PlacementRequest } from "../../core/placement_request.ts";
import { runnerLaunch } from "../../cli/host.ts";
import type { FakeScript } from "../../engines/fake.ts";
import { Node, type NodeOptions } from "../../node/node.ts";
import { tinyCheckpoint } from "./checkpoint.ts";

const RUNNER = new URL("./runner_main.ts", import.meta.url).pathname;

/** How long a condition may take on a busy machine before a test gives up. */
const PATIENCE_MS = 20_000;

/** What the runners of a test's node are, beside fake engines. */
export interface TestNodeOptions
  extends
    Pick<NodeOptions, "loadTimeoutMs" | "clock" | "memoryBytes" | "connect" | "name" | "sources"> {
  /** What it computes with; `MlxCpu` when absent. */
  readonly backends?: readonly Backend[];
  /** The program of its runners, and variables that they get. */
  readonly runner?: { readonly main: string; readonly env: Readonly<Record<string, string>> };
}

const FAKE_ENGINE = { main: RUNNER, env: { EXO_ENGINE: "fake" } };

const STRUCK_RUNNER = new URL("./struck_runner_main.ts", import.meta.url).pathname;

/** Runners with the engine that computes, to which a script's faults happen too. */
export const REAL_ENGINE: TestNodeOptions = {
  runner: { main: STRUCK_RUNNER, env: { EXO_ENGINE: "mlx" } },
};

/** A node on a data directory whose runners are fake engines with this script. */
export async function startTestNode(
  dataDir: string,
  script: z.input<typeof FakeScript> = {},
  { runner = FAKE_ENGINE, backends = ["MlxCpu"], ...options }: TestNodeOptions = {},
): Promise<Node> {
  const scriptFile = `${dataDir}/fake.json`;
  const deviceFile = `${dataDir}/device.json`;
  await Deno.mkdir(dataDir, { recursive: true });
  await writeScript(dataDir, script);
  await Deno.writeTextFile(deviceFile, JSON.stringify({ backends }));
  return await Node.start({
    name: "test",
    ...options,
    dataDir,
    version: "0.0.0-test",
    deviceFile,
    launch: {
      command: Deno.execPath(),
      args: ["run", "-A", "--no-check", runner.main],
      env: {
        ...runnerLaunch(Deno.env.toObject(), undefined).env,
        ...runner.env,
        EXO_ENGINE_SCRIPT: scriptFile,
      },
    },
  });
}

/** What the fake engines that a node starts from now on do. */
export async function writeScript(
  dataDir: string,
  script: z.input<typeof FakeScript>,
): Promise<void> {
  await Deno.writeTextFile(`${dataDir}/fake.json`, JSON.stringify(script));
}

/** Resolves once the state is as `predicate` wants it; names what it waited for when it is not. */
export async function until(
  node: Node,
  what: string,
  predicate: (state: State) => boolean,
): Promise<void> {
  if (predicate(node.state())) return;
  await new Promise<void>((resolve, reject) => {
    const settle = () => {
      clearTimeout(timer);
      stop();
    };
    const timer = setTimeout(() => {
      settle();
      const runners = JSON.stringify([...node.state().runners]);
      reject(new Error(`Waited in vain until ${what}; runners: ${runners}`));
    }, PATIENCE_MS);
    const stop = node.onChange(() => {
      if (!predicate(node.state())) return;
      settle();
      resolve();
    });
  });
}

export const commandId = (node: Node) => CommandId.parse(node.newId());

/** Registers a tiny model that lies in `folder`. */
export async function addTinyModel(node: Node, folder: string): Promise<ModelCard> {
  await tinyCheckpoint(folder);
  return await node.addModel(folder);
}

/** Places a model and waits until it is ready. */
export async function createInstance(
  node: Node,
  modelId: ModelId,
  request: Partial<PlacementRequest> = {},
): Promise<InstanceId> {
  const instanceId = InstanceId.parse(node.newId());
  await node.submit({
    type: "PlaceInstance",
    commandId: commandId(node),
    instanceId,
    request: PlacementRequest.parse({ ...request, modelId }),
  });
  await untilReady(node, instanceId);
  return instanceId;
}

/** Waits until every rank of an instance serves. */
export async function untilReady(node: Node, instanceId: InstanceId): Promise<void> {
  await until(node, "the instance is ready", (state) => {
    const instance = state.instances.get(instanceId);
    return instance !== undefined && isReady(state, instance);
  });
}

/** A state of these nodes in which nothing is wished for, as far in its history. */
export function emptied({ nodes, lastEventAppliedIdx, topologyIdx, lineage }: State): State {
  return { ...EMPTY_STATE, nodes, lastEventAppliedIdx, topologyIdx, lineage };
}

/** A request that says `text`. */
export function ask(
  text: string,
  options: Partial<TextGenerationPayload> = {},
): TextGenerationPayload {
  const messages = [{ role: "user" as const, content: text }];
  return { messages, sampling: {}, stop: [], seed: "1", ...options };
}

/** All chunks of a generation, as they came. */
export async function collect(chunks: AsyncIterable<Chunk>): Promise<Chunk[]> {
  return await Array.fromAsync(chunks);
}

/** The text of a generation's tokens. */
export function textOf(chunks: readonly Chunk[]): string {
  return chunks.map((chunk) => chunk.type === "Token" ? chunk.text : "").join("");
}
