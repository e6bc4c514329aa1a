import { createApp } from "../../api/server.ts";
import type { ApiOptions } from "../../api/server.ts";
import { FakeGateway } from "../support/fake_gateway.ts";

/** A fake node with the API in front of it, in process. */
export function appOver(options: ApiOptions = {}) {
  const gateway = new FakeGateway();
  const app = createApp(gateway, options);
  const send = async (method: string, path: string, body?: unknown, init: RequestInit = {}) => {
    const text = typeof body === "string" ? body : JSON.stringify(body);
    const request = { method, ...init, ...(body === undefined ? {} : { body: text }) };
    return await app.request(path, request, { remoteAddress: "127.0.0.1" });
  };
  return {
    gateway,
    app,
    send,
    get: (path: string, init?: RequestInit) => send("GET", path, undefined, init),
    post: (path: string, body: unknown, init?: RequestInit) => send("POST", path, body, init),
  };
}

/** The body of an error reply. */
export interface ErrorReply {
  readonly error: {
    message: string;
    type: string;
    param: string | null;
    code: number;
    exo_code: string;
    hint?: string;
  };
}

/** The error of a reply, after a look at its status. */
export async function errorOf(response: Response): Promise<ErrorReply["error"]> {
  const { error } = await response.json() as ErrorReply;
  if (error.code !== response.status) throw new Error(`code ${error.code}, ${response.status}`);
  return error;
}

/** A chat request with what tests do not care about filled in. */
export function chatOf(fields: object = {}): object {
  return { model: "tiny", messages: [{ role: "user", content: "hi" }], ...fields };
}
