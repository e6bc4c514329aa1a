import { equal, match, ok, rejects, throws } from "node:assert/strict";
import {
  checkAddress,
  createApp,
  REQUEST_ID_HEADER,
  type RequestRecord,
  serveApi,
} from "../../api/server.ts";
import { AppError } from "../../core/errors.ts";
import { FakeGateway } from "../support/fake_gateway.ts";
import { appOver, chatOf, errorOf } from "./requests.ts";

const LOOPBACK = { hostname: "127.0.0.1", port: 0 };

Deno.test("An unknown path is a 404 in the error shape, another method a 405", async () => {
  const { get, send } = appOver();
  const missing = await get("/v1/nothing");
  equal(missing.status, 404);
  equal((await errorOf(missing)).type, "Not Found");
  const wrong = await send("POST", "/v1/models");
  equal(wrong.status, 405);
  equal(wrong.headers.get("allow"), "GET");
  equal((await errorOf(wrong)).exo_code, "method_not_allowed");
});

Deno.test("JSON that is polled is never stored, and no foreign origin is invited", async () => {
  const { get } = appOver();
  for (const path of ["/state", "/node_id", "/v1/models", "/nothing"]) {
    const response = await get(path, { headers: { origin: "http://evil.example" } });
    equal(response.headers.get("cache-control"), "no-store", path);
    equal(response.headers.get("access-control-allow-origin"), null, path);
    await response.body?.cancel();
  }
});

Deno.test("With an API key every route but the probes wants it", async () => {
  const { app, get, send } = appOver({ apiKey: "secret" });
  for (const path of ["/state", "/v1/models", "/node_id", "/nothing"]) {
    const response = await get(path);
    equal(response.status, 401, path);
    equal(response.headers.get("www-authenticate"), "Bearer");
    match((await errorOf(response)).message, /found no API key/);
  }
  const open = ["/healthz", "/readyz"];
  for (const path of open) equal((await get(path)).status, 200, path);
  const routes = app.routes.filter(({ method, path }) => method !== "ALL" && !open.includes(path));
  equal(routes.length > 30, true, "every route there is");
  for (const { method, path } of routes) {
    const response = await send(method, path.replaceAll(/:\w+(\{.*\})?|\*/g, "x"));
    equal(response.status, 401, `${method} ${path}`);
    await response.body?.cancel();
  }
  const bearer = { authorization: "Bearer secret" };
  equal((await get("/node_id", { headers: bearer })).status, 200);
  equal((await get("/node_id", { headers: { "x-api-key": "secret" } })).status, 200);
  for (const key of ["secreT", "secre", "secrets", "secretsecret", "Bearer"]) {
    equal((await get("/node_id", { headers: { "x-api-key": key } })).status, 401, key);
  }
});

Deno.test("With an API key any host is served", async () => {
  const { get } = appOver({ apiKey: "secret" });
  const headers = { "x-api-key": "secret", host: "exo.example" };
  equal((await get("/node_id", { headers })).status, 200);
});

Deno.test("createApp() refuses an empty key, which everybody could show", () => {
  throws(() => createApp(new FakeGateway(), { apiKey: "" }), /empty key/);
});

Deno.test("Without a key only localhost and IP literals are served", async () => {
  const { get } = appOver();
  for (const host of ["localhost", "localhost:52415", "127.0.0.1:1", "192.168.0.7", "[::1]:9"]) {
    equal((await get("/node_id", { headers: { host } })).status, 200, host);
  }
  for (const host of ["evil.example", "evil.example:52415", "localhost.evil.example", "1.2.3.x"]) {
    const response = await get("/node_id", { headers: { host } });
    equal(response.status, 403, host);
    match((await errorOf(response)).hint ?? "", /--api-key/);
  }
  const named = appOver({ allowedHosts: ["mymac.local"] });
  equal((await named.get("/node_id", { headers: { host: "mymac.local:52415" } })).status, 200);
});

Deno.test("A page of another site cannot change anything", async () => {
  const { post, gateway } = appOver();
  gateway.placeModel();
  for (const origin of ["http://evil.example", "null", "http://localhost:1"]) {
    const headers = { origin, host: "localhost:52415" };
    equal((await post("/v1/chat/completions", chatOf(), { headers })).status, 403, origin);
  }
  const headers = { origin: "http://localhost:52415", host: "localhost:52415" };
  equal((await post("/v1/chat/completions", chatOf(), { headers })).status, 200);
  equal(gateway.asked.length, 1);
});

Deno.test("A body over the limit is a 413, whether it says its length or not", async () => {
  const { post, app } = appOver({ bodyBytesMax: 100 });
  const long = JSON.stringify(chatOf({ user: "x".repeat(200) }));
  const announced = { headers: { "content-length": String(long.length) } };
  const first = await post("/v1/chat/completions", long, announced);
  equal(first.status, 413);
  match((await errorOf(first)).message, /bytes announced, 100 B possible/);
  const body = new Blob([long]).stream();
  const second = await app.request("/v1/chat/completions", { method: "POST", body });
  equal(second.status, 413);
});

Deno.test("A body that does not arrive in time is a 408 and is given up", async () => {
  const { app } = appOver({ bodyTimeoutMs: 5 });
  const cancelled = Promise.withResolvers<void>();
  const body = new ReadableStream<Uint8Array>({
    start: (controller) => controller.enqueue(new TextEncoder().encode("{")),
    cancel: () => cancelled.resolve(),
  });
  const response = await app.request("/place_instance", { method: "POST", body });
  equal(response.status, 408);
  match((await errorOf(response)).message, /1 bytes came in 0.005 s/);
  await cancelled.promise;
});

Deno.test("A body that is no JSON is a 400 that says why", async () => {
  const { post } = appOver();
  for (const [body, said] of [["{bad", /as JSON/], ["", /found nothing/], ["[]", /an object/]]) {
    const response = await post("/place_instance", body);
    equal(response.status, 400);
    match((await errorOf(response)).message, said as RegExp);
  }
  const bytes = new Uint8Array([0x22, 0xff, 0x22]);
  const response = await post("/place_instance", undefined, { body: bytes });
  equal(response.status, 400);
  await response.body?.cancel();
});

Deno.test("A body that is nested too deep is a 400, however deep", async () => {
  const { post } = appOver();
  for (const depth of [65, 20_000]) {
    const body = `{"config": ${"[".repeat(depth)}${"]".repeat(depth)}}`;
    const response = await post("/place_instance", body);
    equal(response.status, 400);
    match((await errorOf(response)).message, /over 64 deep in each other/);
  }
});

Deno.test("A defect of ours is a 500 without its stack, and is told to the host", async () => {
  const told: string[] = [];
  const { gateway, get } = appOver({
    onDefect: (error, route) => told.push(`${route}: ${(error as Error).message}`),
  });
  gateway.state = () => {
    throw new Error("broken table");
  };
  const response = await get("/state");
  equal(response.status, 500);
  const error = await errorOf(response);
  equal(error.exo_code, "internal");
  ok(!JSON.stringify(error).includes(".ts"));
  equal(told.join(), "GET /state: broken table");
});

Deno.test("serveApi() names the port that is taken and the flag for another", async () => {
  const stop = new AbortController();
  const options = { ...LOOPBACK, signal: stop.signal };
  const first = await serveApi(new FakeGateway(), options);
  try {
    const again = () => serveApi(new FakeGateway(), { ...options, port: first.port });
    await rejects(again, (error: AppError) => {
      equal(error.code, "conflict");
      match(error.message, new RegExp(`127.0.0.1:${first.port}`));
      match(error.hint ?? "", /--port/);
      return true;
    });
  } finally {
    stop.abort();
    await first.finished;
  }
});

Deno.test("serveApi() answers over a socket and stops with its signal", async () => {
  const stop = new AbortController();
  const server = await serveApi(new FakeGateway(), { ...LOOPBACK, signal: stop.signal });
  const response = await fetch(`${server.url}/node_id`);
  equal(await response.json(), "node-1");
  stop.abort();
  await server.finished;
});

Deno.test("checkAddress() refuses a host that is not known, by name and with a hint", () => {
  throws(
    () => checkAddress("no-such-host.invalid", 0),
    (error) => error instanceof AppError && error.code === "usage" && /no-such/.test(error.message),
  );
});

Deno.test("every reply names its request, and the log hears of it without its body", async () => {
  const records: RequestRecord[] = [];
  const app = createApp(new FakeGateway(), { onRequest: (record) => records.push(record) });
  const response = await app.request("/healthz?secret=1");
  await response.body?.cancel();
  const [record] = records;
  ok(record && record.requestId !== "");
  equal(response.headers.get(REQUEST_ID_HEADER), record.requestId);
  equal(`${record.method} ${record.path} ${record.status}`, "GET /healthz 200");
});
