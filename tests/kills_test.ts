import { killNode } from "./verify/kills.ts";

Deno.test("a node killed at 5 random points has lost nothing that it acknowledged", () =>
  killNode(1, 5));
