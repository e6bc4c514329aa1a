import { equal } from "node:assert/strict";
import { type ApiOptions, createApp, serveApi } from "../../api/server.ts";
import type { Node } from "../../node/node.ts";
import { safetensors } from "../support/checkpoint.ts";
import { TempDir } from "../support/temp_dir.ts";
import { addTinyModel, createInstance, startTestNode } from "../support/test_node.ts";
import type { Told } from "./told.ts";

/** Limit of the served API: small, so that what exceeds it is quick to send. */
export const BODY_BYTES_MAX = 64 * 1024;

/** Tokens of the fake engine's context, and requests that it takes at once. */
export const CONTEXT_TOKENS = 300;
const QUEUE_MAX = 1;

/** The address of a request, and what is sent there. */
export interface Request {
  readonly name: string;
  readonly method?: string;
  readonly path: string;
  /** JSON, or text as it stands. */
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
}

/** A real node with a served model, which must survive all that it is asked. */
export class World implements AsyncDisposable {
  readonly url: string;
  readonly dir: string;
  readonly node: Node;
  readonly #disposal: () => Promise<void>;

  private constructor(node: Node, dir: string, served: { url: string }, end: () => Promise<void>) {
    this.node = node;
    this.dir = dir;
    this.url = served.url;
    this.#disposal = end;
  }

  /** Starts a node that serves the model `local/tiny-…` and knows two that it does not serve. */
  static async start(): Promise<World> {
    const dir = await TempDir.make();
    const script = { contextTokens: CONTEXT_TOKENS, queueMax: QUEUE_MAX, stepMs: 5 };
    const node = await startTestNode(`${dir.path}/data`, script);
    const served = await serve(node, { bodyBytesMax: BODY_BYTES_MAX });
    const { modelId } = await addTinyModel(node, `${dir.path}/tiny`);
    for (const name of ["other-1b", "other-2b"]) await addTinyModel(node, `${dir.path}/${name}`);
    await createInstance(node, modelId);
    return new World(node, dir.path, served, async () => {
      await node.stop();
      await served[Symbol.asyncDispose]();
      await dir[Symbol.asyncDispose]();
    });
  }

  /** Sends a request and gives what its sender is told; then the node must be as well as before. */
  async tell(request: Request): Promise<Told> {
    const told = await this.tellOnce(request);
    await this.isWell(request.name);
    return told;
  }

  /** As `tell`, without the look at the node after it. */
  async tellOnce({ name, method = "POST", path, body, headers }: Request): Promise<Told> {
    const text = typeof body === "string" ? body : JSON.stringify(body);
    const response = await fetch(this.url + path, {
      method,
      headers: { "content-type": "application/json", ...headers },
      ...(body === undefined ? {} : { body: text }),
    });
    const sent = text === undefined ? "" : ` ${text.length > 120 ? "…" : text}`;
    return toldBy({ name, by: `${method} ${path}${sent}` }, response.status, await response.text());
  }

  /** Whether the node is ready and answers. */
  async isWell(after: string): Promise<void> {
    const ready = await fetch(`${this.url}/readyz`);
    equal(ready.status, 200, `after ${after}: ${await ready.text()}`);
    const messages = [{ role: "user", content: "hi" }];
    const body = JSON.stringify({ model: "tiny", messages });
    const answer = await fetch(`${this.url}/v1/chat/completions`, { method: "POST", body });
    const text = await answer.text();
    equal(answer.status, 200, `after ${after}: ${text}`);
  }

  async deleteInstance(id: string): Promise<void> {
    const response = await fetch(`${this.url}/instance/${id}`, { method: "DELETE" });
    equal(response.status, 200, await response.text());
  }

  /** The same node behind another server, with limits of its own. */
  served(options: ApiOptions): Promise<Served> {
    return serve(this.node, options);
  }

  /** The same API in process, with options of its own. */
  app(options: ApiOptions) {
    return createApp(this.node, options);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#disposal();
  }
}

/** A server of a node's API, until it is disposed. */
interface Served extends AsyncDisposable {
  readonly url: string;
}

async function serve(node: Node, options: ApiOptions): Promise<Served> {
  const stop = new AbortController();
  const listen = { hostname: "127.0.0.1", port: 0, signal: stop.signal };
  const { url, finished } = await serveApi(node, { ...listen, ...options });
  return {
    url,
    [Symbol.asyncDispose]: async () => {
      stop.abort();
      await finished;
    },
  };
}

/** A reply as its client reads it; one without an error is told by its status alone. */
export function toldBy(
  case_: { name: string; by: string },
  status: number,
  text: string,
): Told {
  const { error } = parsed(text);
  if (!error) return { ...case_, outcome: `${status}, taken`, message: "" };
  equal(error.code, status, `the body of ${case_.by} names its status`);
  return {
    ...case_,
    outcome: `${status} ${error.exo_code}`,
    message: error.message,
    hint: error.hint,
    param: error.param ?? undefined,
  };
}

interface WireError {
  readonly message: string;
  readonly code: number;
  readonly exo_code: string;
  readonly hint?: string;
  readonly param: string | null;
}

function parsed(text: string): { error?: WireError } {
  return text.startsWith("{") ? JSON.parse(text) : {};
}

/** A checkpoint folder that claims `bytes` of weights, with as good as nothing on the disk. */
export async function hugeCheckpoint(folder: string, bytes: number): Promise<void> {
  await Deno.mkdir(folder, { recursive: true });
  const config = {
    model_type: "llama",
    num_hidden_layers: 2,
    hidden_size: 8,
    num_attention_heads: 2,
    max_position_embeddings: 128,
  };
  await Deno.writeTextFile(`${folder}/config.json`, JSON.stringify(config));
  await Deno.writeTextFile(`${folder}/tokenizer.json`, "{}");
  const whole = safetensors({ "a.weight": { shape: [0], data: new Float32Array() } });
  const header = new TextEncoder().encode(
    JSON.stringify({ a: { dtype: "F32", shape: [bytes / 4], data_offsets: [0, bytes] } }),
  );
  const prefix = new Uint8Array(whole.subarray(0, 8));
  new DataView(prefix.buffer).setBigUint64(0, BigInt(header.length), true);
  const path = `${folder}/model.safetensors`;
  await Deno.writeFile(path, new Uint8Array([...prefix, ...header]));
  await Deno.truncate(path, 8 + header.length + bytes);
}
