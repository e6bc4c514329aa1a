import { ok } from "node:assert/strict";
import { Connection } from "../../api/connection.ts";

/** Longer than any test takes. */
const LONG_MS = 60_000;

Deno.test("a connection that is destroyed sets no limits any more", {
  sanitizeOps: true,
  sanitizeResources: true,
}, async () => {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { hostname, port } = listener.addr as Deno.NetAddr;
  const both = [listener.accept(), Deno.connect({ hostname, port })] as const;
  const [accepted, client] = await Promise.all(both);
  const connection = new Connection(accepted, LONG_MS);
  connection.setTimeout(LONG_MS);
  connection.limitRequest({ complete: false }, LONG_MS);
  connection.destroy();
  connection.setTimeout(LONG_MS);
  connection.limitRequest({ complete: false }, LONG_MS);
  ok(connection.destroyed);
  client.close();
});
