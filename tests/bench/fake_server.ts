import type { ModelServer } from "../../bench/server.ts";
import type { ModelEndpoint } from "./model_endpoint.ts";

/** A server at `endpoint` that writes its starts and stops into `log`. */
export function fakeServer(name: string, endpoint: ModelEndpoint, log: string[]): ModelServer {
  return {
    name,
    version: "1",
    settings: "as it is",
    start() {
      log.push(`${name} starts`);
      const stop = () => {
        log.push(`${name} stops`);
        return Promise.resolve();
      };
      return Promise.resolve({
        ...{ url: endpoint.url, model: "m", loadStartedAt: performance.now(), loadMs: 7, stop },
        ...{ loadPartsMs: { loadModel: 5 }, pids: { model: Deno.pid } },
      });
    },
  };
}
