import { dirname, join } from "node:path";
import type { z } from "zod";
import { ApiClient } from "../../api/client.ts";
import { writeClusterSecret } from "../../cli/cluster_secret_file.ts";
import { directories } from "../../core/directories.ts";
import type { FakeScript } from "../../engines/fake.ts";
import { apart } from "./apart.ts";
import { ServeProcess } from "./exo_process.ts";
import type { TempDir } from "./temp_dir.ts";

const MAIN = new URL("../../main.ts", import.meta.url).pathname;
const TINY_GGUF = new URL("../golden/models/tiny-gguf.gguf", import.meta.url);

/** The files that examples name, in the folder where they are run. */
const MODEL_FILE = "SmolLM2-135M-Instruct-Q4_1.gguf";
const NOTES_FILE = "notes.txt";
const TOPOLOGY_FILE = "topology.json";
const SECRET_FILE = "cluster-secret";

/** A cluster on paper. */
const TOPOLOGY = { nodes: [{ id: "mini", memoryAvailableBytes: 2 ** 33 }], links: [] };

/** Where the completions of the shells go. */
const COMPLETION_FOLDERS = [
  ".local/share/bash-completion/completions",
  ".config/fish/completions",
  "functions",
];

/**
 * A machine on which every example of the command line works as it is written: `exo` on the path, a
 * node that runs, and under the name of SmolLM2 a tiny model with a fake engine, since what is
 * tried is the command and not the model.
 */
export class ExampleWorld implements AsyncDisposable {
  readonly env: Readonly<Record<string, string>>;
  readonly cwd: string;
  readonly client: ApiClient;
  readonly #serve: ServeProcess;

  private constructor(cwd: string, env: Readonly<Record<string, string>>, serve: ServeProcess) {
    this.cwd = cwd;
    this.env = { ...env, ...apart(), EXO_URL: serve.url, EXO_PORT: "0" };
    this.client = new ApiClient({ url: serve.url, apiKey: undefined });
    this.#serve = serve;
  }

  /** `script` is what the fake engines do. */
  static async make(dir: TempDir, script: z.input<typeof FakeScript> = {}): Promise<ExampleWorld> {
    const [bin, cwd, home, exoHome] = ["bin", "work", "home", "exo"]
      .map((name) => join(dir.path, name)) as [string, string, string, string];
    for (const folder of [bin, cwd, ...COMPLETION_FOLDERS.map((path) => join(home, path))]) {
      await Deno.mkdir(folder, { recursive: true });
    }
    const model = join(cwd, MODEL_FILE);
    await Deno.writeFile(model, renamed(await Deno.readFile(TINY_GGUF)));
    await Deno.writeTextFile(join(cwd, NOTES_FILE), "The sea is blue.\n");
    await Deno.writeTextFile(join(cwd, TOPOLOGY_FILE), JSON.stringify(TOPOLOGY));
    await makeExoHome(exoHome, model);
    await writeProgram(join(bin, "exo"));
    const scriptFile = join(dir.path, "script.json");
    await Deno.writeTextFile(scriptFile, JSON.stringify(script));
    const engine = { EXO_HOME: exoHome, EXO_ENGINE: "fake", EXO_ENGINE_SCRIPT: scriptFile };
    const serve = await ServeProcess.start(join(dir.path, "data"), engine);
    const PATH = `${bin}:${Deno.env.get("PATH") ?? ""}`;
    return new ExampleWorld(cwd, { ...engine, PATH, HOME: home }, serve);
  }

  /** Declares the model, once; the id of its meta-instance comes back. */
  async declare(): Promise<string> {
    const { id: model } = await this.client.addModel(join(this.cwd, MODEL_FILE));
    const [declared] = Object.keys(await this.client.listMetaInstances());
    return declared ?? (await this.client.createMetaInstance({ model })).metaInstanceId;
  }

  /** The model is registered, and has one ready instance unless `isPlaced` is false. */
  async prepare({ isPlaced }: { isPlaced: boolean }): Promise<{ instanceId: string }> {
    const { id: model } = await this.client.addModel(join(this.cwd, MODEL_FILE));
    for (const declared of Object.keys(await this.client.listMetaInstances())) {
      await this.client.deleteMetaInstance(declared);
    }
    const [first, ...others] = Object.keys((await this.client.state()).instances);
    const kept = isPlaced ? first : undefined;
    const left = kept === undefined && first !== undefined ? [first, ...others] : others;
    for (const instanceId of left) await this.client.deleteInstance(instanceId);
    if (!isPlaced) return { instanceId: "" };
    const instanceId = kept ?? (await this.client.placeInstance({ model })).instanceId;
    for await (const _ of this.client.awaitInstance({ instanceId }, { timeoutSeconds: 60 }));
    return { instanceId };
  }

  /** A cluster's secret lies in the folder of the examples, or does not. */
  async haveSecret(isThere: boolean): Promise<void> {
    await Deno.remove(join(this.cwd, SECRET_FILE)).catch(() => {});
    if (isThere) await writeClusterSecret(SECRET_FILE, this.cwd);
  }

  /** A line of a shell, in the folder of the examples. */
  command(line: string, env: Readonly<Record<string, string>> = {}): Deno.Command {
    // zsh sets `fpath`, and counts its elements from 1 as bash does with one in front.
    return new Deno.Command("bash", {
      args: ["-c", `fpath=(none "$HOME/functions"); ${line}`],
      cwd: this.cwd,
      env: { ...this.env, ...env },
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#serve[Symbol.asyncDispose]();
  }
}

/** The tiny model under a name that begins as SmolLM2 does, with as long a context. */
function renamed(gguf: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  const text = new TextDecoder("latin1").decode(gguf);
  const context = text.indexOf("llama.context_length") + "llama.context_length".length;
  gguf.set(new TextEncoder().encode("smollm2-a"), text.indexOf("tiny-gguf"));
  // Behind the key stand four bytes of type.
  new DataView(gguf.buffer).setUint32(context + 4, 8_192, true);
  return gguf;
}

/** What was fetched and compiled is shared with the real one; the default model is the tiny one. */
async function makeExoHome(path: string, model: string): Promise<void> {
  const env = Deno.env.toObject();
  const { cache } = directories({ env, os: Deno.build.os, home: env["HOME"] ?? "/" });
  await Deno.mkdir(join(cache, "native"), { recursive: true });
  await Deno.mkdir(join(path, "models"), { recursive: true });
  await Deno.symlink(join(cache, "native"), join(path, "native"));
  await Deno.copyFile(model, join(path, "models", "SmolLM2-135M-Instruct.Q4_1.gguf"));
}

/** `exo` from source; Deno itself keeps the real home, where its cache is. */
async function writeProgram(path: string): Promise<void> {
  const home = Deno.env.get("HOME") ?? dirname(MAIN);
  const script = `#!/bin/sh\nHOME='${home}' exec '${Deno.execPath()}' run -A --no-check ` +
    `'${MAIN}' "$@"\n`;
  await Deno.writeTextFile(path, script, { mode: 0o755 });
}
