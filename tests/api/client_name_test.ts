import { equal, match, notEqual, ok } from "node:assert/strict";
import { clientName } from "../../api/client_name.ts";
import { tenantOf } from "../../core/fair_share.ts";
import { CLIENT_CHARS_MAX } from "../../core/task.ts";

const remoteAddress = "192.168.0.9";

Deno.test("A client is named by its address, and nobody by nothing", () => {
  equal(clientName({ remoteAddress }), remoteAddress);
  equal(clientName({}), undefined);
  equal(clientName({ remoteAddress, user: "" }), remoteAddress);
});

Deno.test("Users of one program are told apart, and cannot be read", () => {
  const ada = clientName({ remoteAddress, user: "ada@example.org" });
  match(ada ?? "", /^192\.168\.0\.9\/[0-9a-f]{16}$/);
  equal(clientName({ remoteAddress, user: "ada@example.org" }), ada);
  notEqual(clientName({ remoteAddress, user: "bob@example.org" }), ada);
  equal(tenantOf(ada ?? ""), remoteAddress, "whom it asks for does not give it another share");
  notEqual(clientName({ remoteAddress: "192.168.0.10", user: "ada@example.org" }), ada);
  match(clientName({ user: "ada" }) ?? "", /^\/[0-9a-f]{16}$/);
});

Deno.test("A name is as short as the task's schema wants it, and keeps its user", () => {
  const name = clientName({ remoteAddress: `fe80::1%${"x".repeat(500)}`, user: "ada" }) ?? "";
  equal(name.length, CLIENT_CHARS_MAX);
  ok(name.endsWith(clientName({ user: "ada" }) ?? "?"));
});
