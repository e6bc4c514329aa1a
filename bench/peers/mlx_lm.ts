import { join } from "node:path";
import { freePort, whenHealthy } from "../network.ts";
import type { ModelServer, RunningServer } from "../server.ts";
import { installOnce } from "./install.ts";
import type { InstallContext, Peer, ServeOptions } from "./peer.ts";
import { PEER_PACKAGES } from "./versions.ts";

const CONVERT = new URL("convert_for_mlx_lm.py", import.meta.url).pathname;

/** mlx-lm, in a Python environment of its own. */
export const mlxLm: Peer = {
  name: "mlx-lm",

  async install(context) {
    const name = `mlx-lm-${PEER_PACKAGES["mlx-lm"]}`;
    const folder = await installOnce(name, context, fetchPackages);
    const python = pythonOf(folder);
    const ask = ["-c", "from importlib.metadata import version as v; print(v('mlx-lm'), v('mlx'))"];
    const said = await context.run(python, ask, { logPath: join(folder, "install.log") });
    const [mlxLmVersion, mlxVersion] = said.trim().split(" ");
    const version = `${mlxLmVersion} (mlx ${mlxVersion})`;
    return {
      version,
      async server(options) {
        const model = join(options.scratch, "mlx-lm-model");
        const logPath = join(options.logs, "mlx-lm-convert.log");
        context.onProgress("mlx-lm: converting the model");
        await context.run(python, [CONVERT, options.modelPath, model], { logPath });
        return serverOf(python, { version, model, options });
      },
    };
  },
};

function pythonOf(folder: string): string {
  return join(folder, "venv", "bin", "python");
}

async function fetchPackages(
  folder: string,
  { run, onProgress }: InstallContext,
): Promise<void> {
  const options = { cwd: folder, logPath: join(folder, "install.log") };
  onProgress("mlx-lm: fetching it and its libraries");
  await run("python3", ["-m", "venv", "venv"], options);
  const mlx = Deno.build.os === "linux" ? "mlx[cpu]" : "mlx";
  const packages = [
    `mlx-lm==${PEER_PACKAGES["mlx-lm"]}`,
    `${mlx}==${PEER_PACKAGES.mlx}`,
  ];
  await run(pythonOf(folder), ["-m", "pip", "install", "-q", ...packages], options);
}

interface Served {
  readonly version: string;
  /** Folder of the converted model. */
  readonly model: string;
  readonly options: ServeOptions;
}

function serverOf(python: string, { version, model, options }: Served): ModelServer {
  const { processes, logs, env, parallel } = options;
  return {
    name: "mlx-lm",
    version,
    settings: "mlx_lm.server, activations and scales in f32 (bf16 and f16 are many times slower " +
      "on CPU), the same 4-bit weights, prompt cache off",
    async start(): Promise<RunningServer> {
      const port = freePort();
      const url = `http://127.0.0.1:${port}`;
      const args = [
        ...["-m", "mlx_lm", "server", "--model", model],
        ...["--host", "127.0.0.1", "--port", String(port), "--log-level", "WARNING"],
        ...["--decode-concurrency", String(parallel), "--prompt-concurrency", String(parallel)],
        ...["--prompt-cache-size", "0"],
      ];
      const loadStartedAt = performance.now();
      const logPath = join(logs, "mlx-lm-server.log");
      const process = processes.start(python, args, {
        logPath,
        env: { ...env, HF_HUB_OFFLINE: "1" },
      });
      await whenHealthy(`${url}/health`, process);
      const pids = { model: process.pid };
      const stop = () => process.stop();
      // It says that it is well before it has the model, so only its first answer tells.
      return { url, model, loadStartedAt, loadMs: null, loadPartsMs: {}, pids, stop };
    },
  };
}
