import { join } from "node:path";
import type { VirtualNetwork } from "../netns.ts";
import { whenHealthy } from "../network.ts";
import type { InstalledLlamaCpp } from "../peers/llama_cpp.ts";
import type { StartedProcess } from "../processes.ts";
import type { Layout } from "./layout.ts";
import type { Player, RunningGroup, Stage } from "./player.ts";

/** Each program has a machine of its own, so that its port may be fixed. */
const HTTP_PORT = 8_080;
const RPC_PORT = 50_052;

/** Looks at the port of a machine that computes layers for another, and between two of them. */
const RPC_LOOKS_MAX = 300;
const RPC_LOOK_SECONDS = "0.1";

/** Llama.cpp's server on the first machine; on the others `ggml-rpc-server` computes layers. */
export function llamaPlayer(
  stage: Stage,
  layout: Layout,
  { program, layers }: Pick<InstalledLlamaCpp, "program"> & { readonly layers: number },
): Player {
  const { network, setting: { processes, logs }, modelPath, threads } = stage;

  /** Starts a program on a machine. */
  function start(machine: number, args: readonly string[], log: string): StartedProcess {
    const [first = "", ...rest] = [...network.wrap(machine), ...args];
    return processes.start(first, rest, { logPath: join(logs, `${log}-${machine}.log`) });
  }

  async function startRpc(machine: number): Promise<StartedProcess> {
    const [host, port] = [network.address(machine), `${RPC_PORT}`];
    const server = [program("ggml-rpc-server"), "--host", host, "--port", port];
    const process = start(machine, [...server, "--threads", `${threads}`], "rpc-server");
    const looks = `for _ in $(seq ${RPC_LOOKS_MAX}); do ` +
      `(exec 3<>/dev/tcp/${host}/${port}) 2>/dev/null && exit 0; sleep ${RPC_LOOK_SECONDS}; done; ` +
      `echo nothing listens at ${host}:${port} >&2; exit 1`;
    await network.run(0, "bash", "-c", looks);
    return process;
  }

  return {
    program: "llama.cpp",
    layout,
    async start(): Promise<RunningGroup> {
      const others = network.machines.slice(1, layout.ranks);
      const started: StartedProcess[] = [];
      const stop = async () => void await Promise.all(started.map((process) => process.stop()));
      try {
        for (const machine of others) started.push(await startRpc(machine));
        const args = serverArgs(stage, layout, layers);
        const process = start(0, [program("llama-server"), ...args], "llama-server");
        started.push(process);
        const url = `http://127.0.0.1:${await network.door(0, HTTP_PORT)}`;
        await whenHealthy(`${url}/health`, process);
        return { url, model: modelPath, stop };
      } catch (error) {
        await stop();
        throw error;
      }
    },
  };
}

/** Flags of the server; the first machine computes the first layers, the others their shares. */
export function serverArgs(
  { network, modelPath, threads, streams, contextTokens }:
    & Omit<Stage, "setting" | "network">
    & { readonly network: Pick<VirtualNetwork, "machines" | "address"> },
  { ranks }: Pick<Layout, "ranks">,
  layers: number,
): string[] {
  const hosts = network.machines.slice(1, ranks).map((machine) =>
    `${network.address(machine)}:${RPC_PORT}`
  );
  const own = Math.ceil(layers / ranks);
  // What is offloaded counts from the end, and the output counts as a layer.
  const rpc = ["--rpc", hosts.join(","), "--n-gpu-layers", `${layers - own + 1}`];
  return [
    ...["--model", modelPath, "--host", "0.0.0.0", "--port", `${HTTP_PORT}`],
    ...["--threads", `${threads}`, "--threads-batch", `${threads}`],
    ...["--parallel", `${streams}`, "--ctx-size", `${streams * contextTokens}`],
    ...["--cont-batching", "--no-cache-prompt"],
    ...(ranks === 1 ? [] : rpc),
  ];
}
