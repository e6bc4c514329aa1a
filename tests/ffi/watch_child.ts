/** Watches fd 3 and never comes back to its event loop; `device_test.ts` starts it. */
import * as mx from "../../ffi/mod.ts";

mx.watchParent(3);
const side = Deno.args[0] === "native code" ? 2048 : 8;
using x = mx.ones([side, side]).eval();
Deno.stdout.writeSync(new TextEncoder().encode("watching\n"));
while (true) {
  using _scope = new mx.Scope();
  if (side > 8) x.matmul(x).eval();
}
