import { AppError } from "../core/errors.ts";
import { chatBody, type ChatEvent, type ChatInput, readChat } from "./client_chat.ts";
import { readError } from "./client_error.ts";
import {
  type MetaInstanceInput,
  type MetaInstanceView,
  type PlaceInput,
  placementBody,
  placementQuery,
  type PreviewView,
} from "./client_placement.ts";
import { readSse, type SseEvent } from "./client_sse.ts";
import type { StateView, Table, TaggedInstance } from "./client_state.ts";
import type { WaitMessage } from "./instance_wait.ts";
import type { ModelDetails, ModelObject } from "./models.ts";

export type { EdgeView, InstanceView, StateView, TaggedInstance } from "./client_state.ts";

/** Where a node of this machine answers. */
export const DEFAULT_URL = "http://127.0.0.1:52415";

/** Longest wait for the reply to a request that needs no work of a model. */
const REQUEST_TIMEOUT_MS = 30_000;

/** Longest wait that one request to the API may ask for (`api/instances.ts`). */
const WAIT_SECONDS_MAX = 300;

/** Adding a model reads its header and counts its tensors, which a slow disk may draw out. */
const ADD_TIMEOUT_MS = 120_000;

/** Whom to ask, and as whom. */
export interface ClientOptions {
  readonly url: string;
  readonly apiKey?: string | undefined;
  /** Aborted: every request under way ends. */
  readonly signal?: AbortSignal | undefined;
}

/** The API of a node, typed. Errors of the API and of the network are `AppError`s. */
export class ApiClient {
  readonly url: string;
  readonly #apiKey: string | undefined;
  readonly #signal: AbortSignal | undefined;

  constructor({ url, apiKey, signal }: ClientOptions) {
    this.url = url.replace(/\/+$/, "");
    this.#apiKey = apiKey;
    this.#signal = signal;
  }

  async listModels(): Promise<readonly ModelObject[]> {
    const { data } = await this.#json<{ data: ModelObject[] }>("GET", "/v1/models");
    return data;
  }

  /** The model that `name`, its id or a unique prefix, names. */
  showModel(name: string): Promise<ModelDetails> {
    return this.#json("GET", `/v1/models/${encodeURIComponent(name)}`);
  }

  /** Registers a file or folder of the node's machine. */
  addModel(path: string): Promise<ModelObject> {
    return this.#json("POST", "/models/add", { body: { path }, timeoutMs: ADD_TIMEOUT_MS });
  }

  async removeModel(name: string): Promise<{ modelId: string }> {
    const path = `/models/custom/${encodeURIComponent(name)}`;
    const { model_id } = await this.#json<{ model_id: string }>("DELETE", path);
    return { modelId: model_id };
  }

  /** Where a model could go, the best first, then why not elsewhere; creates nothing. */
  async previews(input: PlaceInput): Promise<readonly PreviewView[]> {
    const path = `/instance/previews?${placementQuery(input)}`;
    const { previews } = await this.#json<{ previews: PreviewView[] }>("GET", path);
    return previews;
  }

  /** Places a model; resolves once the instance exists, before it is ready. */
  async placeInstance(input: PlaceInput): Promise<{ instanceId: string; modelId: string }> {
    const body = placementBody(input);
    const reply = await this.#json<{ instance_id: string; model_card: { modelId: string } }>(
      "POST",
      "/place_instance",
      { body },
    );
    return { instanceId: reply.instance_id, modelId: reply.model_card.modelId };
  }

  /**
   * Follows an instance until it is ready; a wait longer than the API grants is asked for again.
   * @throws {AppError} `runner_failed` or `timed_out`, with the reason.
   */
  async *awaitInstance(
    target: { instanceId: string } | { model: string },
    { timeoutSeconds = 0 }: { timeoutSeconds?: number | undefined } = {},
  ): AsyncGenerator<WaitMessage> {
    for (let left = timeoutSeconds;; left -= WAIT_SECONDS_MAX) {
      const seconds = Math.min(left, WAIT_SECONDS_MAX);
      for await (const message of this.#awaitOnce(target, seconds)) {
        if (message.type === "failed") {
          throw new AppError("runner_failed", message.message, { hint: lookUp(target, "show") });
        }
        if (message.type === "timeout") {
          if (left > WAIT_SECONDS_MAX) break;
          throw new AppError("timed_out", message.message, { hint: lookUp(target, "await") });
        }
        yield message;
        if (message.type === "ready") return;
      }
    }
  }

  async *#awaitOnce(
    target: { instanceId: string } | { model: string },
    seconds: number,
  ): AsyncGenerator<WaitMessage> {
    const query = new URLSearchParams({ timeout_seconds: String(seconds) });
    if ("model" in target) query.set("model_id", target.model);
    else query.set("instance_id", target.instanceId);
    const response = await this.#send("GET", `/instance/await?${query}`);
    for await (const event of this.#events(response)) {
      if (event.type !== "data") continue;
      const message = JSON.parse(event.data) as WaitMessage;
      yield message;
      if (message.type !== "progress") return;
    }
    throw this.#failure(new Error("the stream ended early"));
  }

  listInstances(): Promise<readonly TaggedInstance[]> {
    return this.#json("GET", "/instance");
  }

  showInstance(instanceId: string): Promise<TaggedInstance> {
    return this.#json("GET", `/instance/${encodeURIComponent(instanceId)}`);
  }

  async deleteInstance(instanceId: string): Promise<void> {
    await this.#json("DELETE", `/instance/${encodeURIComponent(instanceId)}`);
  }

  /** Declares that an instance of a model always exists; resolves once that is stored. */
  async createMetaInstance(
    { pin, maxRetries, ...input }: MetaInstanceInput,
  ): Promise<{ metaInstanceId: string; modelId: string }> {
    const body = { ...placementBody(input), pin, max_retries: maxRetries };
    const reply = await this.#json<{ meta_instance_id: string; model_card: { modelId: string } }>(
      "POST",
      "/meta_instance",
      { body },
    );
    return { metaInstanceId: reply.meta_instance_id, modelId: reply.model_card.modelId };
  }

  listMetaInstances(): Promise<Table<MetaInstanceView>> {
    return this.#json("GET", "/meta_instances");
  }

  showMetaInstance(id: string): Promise<MetaInstanceView> {
    return this.#json("GET", `/meta_instances/${encodeURIComponent(id)}`);
  }

  async deleteMetaInstance(id: string): Promise<void> {
    await this.#json("DELETE", `/meta_instance/${encodeURIComponent(id)}`);
  }

  /** Arms a parked meta-instance again, or ends the wait of one that is retried. */
  async retryMetaInstance(id: string): Promise<void> {
    await this.#json("POST", `/meta_instance/${encodeURIComponent(id)}/retry`);
  }

  /** How a meta-instance fares, at once and after each change, until it is deleted. */
  async *watchMetaInstance(id: string): AsyncGenerator<MetaInstanceView> {
    const path = `/meta_instances/${encodeURIComponent(id)}?watch=1`;
    const response = await this.#send("GET", path);
    for await (const event of this.#events(response)) {
      if (event.type !== "data") continue;
      const news = JSON.parse(event.data);
      if (news.type === "deleted") return;
      yield news.metaInstance as MetaInstanceView;
    }
    throw this.#failure(new Error("the stream ended early"));
  }

  state(): Promise<StateView> {
    return this.#json("GET", "/state");
  }

  /**
   * Yields after each event of the cluster, until whoever asked has gone.
   * @throws {AppError} `node_unreachable` when the node is gone.
   */
  async *changes(): AsyncGenerator<void> {
    while (true) {
      const response = await this.#send("GET", "/events", { accept: "text/event-stream" });
      let isReset = false;
      for await (const event of this.#events(response)) {
        if (event.type !== "data") continue;
        isReset = event.event === "reset";
        yield;
      }
      // After a reset the node has another log, which it can tell of as well.
      if (!isReset) throw this.#failure(new Error("the stream ended early"));
    }
  }

  nodeId(): Promise<string> {
    return this.#json("GET", "/node_id");
  }

  /**
   * One answer as it is made: text, then one finish. Leaving the loop early cancels it.
   * @throws {AppError} what the generation ended with.
   */
  async *chat(
    input: ChatInput,
    { timeoutMs }: { readonly timeoutMs?: number | undefined } = {},
  ): AsyncGenerator<ChatEvent> {
    const options = { body: chatBody(input), timeoutMs };
    const response = await this.#send("POST", "/v1/chat/completions", options);
    yield* readChat(this.#events(response, timeoutMs));
  }

  async #json<T>(method: string, path: string, options: RequestOptions = {}): Promise<T> {
    const timeoutMs = options.timeoutMs ?? REQUEST_TIMEOUT_MS;
    const response = await this.#send(method, path, { ...options, timeoutMs });
    try {
      return await response.json() as T;
    } catch (error) {
      throw this.#failure(error, timeoutMs);
    }
  }

  async #send(
    method: string,
    path: string,
    { body, timeoutMs, accept = "*/*" }: RequestOptions = {},
  ): Promise<Response> {
    const signals = [this.#signal, timeoutMs && AbortSignal.timeout(timeoutMs)];
    const headers: Record<string, string> = { "content-type": "application/json", accept };
    if (this.#apiKey !== undefined) headers["authorization"] = `Bearer ${this.#apiKey}`;
    let response: Response;
    try {
      response = await fetch(this.url + path, {
        method,
        headers,
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
        signal: AbortSignal.any(signals.filter((signal) => signal instanceof AbortSignal)),
      });
    } catch (error) {
      throw this.#failure(error, timeoutMs);
    }
    if (response.ok) return response;
    throw replyError(response.status, await response.text().catch(() => ""), this.url);
  }

  /** A request that got no reply, or only the beginning of one. */
  #failure(error: unknown, timeoutMs?: number): AppError {
    const cause = { cause: error };
    if (this.#signal?.aborted) return new AppError("cancelled", "Interrupted", cause);
    if (error instanceof DOMException && error.name === "TimeoutError") {
      const message = `Cannot get an answer from ${this.url} within ${(timeoutMs ?? 0) / 1000} s`;
      const hint = "exo status tells whether the node is well; its log, why it is slow";
      return new AppError("timed_out", message, { hint, ...cause });
    }
    if (error instanceof SyntaxError) return notOurs(this.url, "an answer that is not JSON");
    const { found, hint } = why(error);
    const message = `Cannot reach a node at ${this.url}: ${found}`;
    return new AppError("node_unreachable", message, { hint, ...cause });
  }

  /** The events of a stream; a connection that breaks is an `AppError`. */
  async *#events(response: Response, timeoutMs?: number): AsyncGenerator<SseEvent> {
    try {
      yield* readSse(response.body ?? new Blob([]).stream());
    } catch (error) {
      throw this.#failure(error, timeoutMs);
    }
  }
}

/** The command that tells what became of an instance. */
function lookUp(
  target: { readonly instanceId: string } | { readonly model: string },
  subcommand: "show" | "await",
): string {
  return "instanceId" in target
    ? `exo instance ${subcommand} ${target.instanceId}`
    : "exo instance list";
}

const START_ONE = "start one with exo serve, or name another with --url";

/** Why there was no connection, in words; those of the system differ from one to the next. */
function why(error: unknown): { readonly found: string; readonly hint: string } {
  const found = error instanceof Error ? `${error.message} ${error.cause}` : "";
  if (/refused/i.test(found)) {
    return { found: "nothing listens there, a node needed", hint: START_ONE };
  }
  if (/port \d+ are blocked/i.test(found)) {
    const hint =
      "start one with exo serve, which takes port 52415, or name another port with --url";
    return { found: "its port is one that no client may ask, another needed", hint };
  }
  if (/dns|lookup/i.test(found)) {
    const hint = "correct the host in --url, or leave --url out for the node of this machine";
    return { found: "its host has no address, one needed", hint };
  }
  return {
    found: "the connection broke off, a lasting one needed",
    hint: "exo status tells whether the node still runs",
  };
}

interface RequestOptions {
  readonly body?: object;
  readonly timeoutMs?: number | undefined;
  readonly accept?: string;
}

/** The error that a reply holds, ours or that of whatever else answers at this address. */
function replyError(status: number, text: string, url: string): AppError {
  return readError(text, status) ?? notOurs(url, `status ${status}`);
}

function notOurs(url: string, found: string): AppError {
  return new AppError("node_unreachable", `Cannot talk to ${url}: found ${found}, a node needed`, {
    hint: "name the address that exo serve printed, with --url",
  });
}
