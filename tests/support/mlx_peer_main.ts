/** A rank over MLX's ring, for the suite that every group runs. */
import type { GroupSpec } from "../../core/group.ts";
import type { Group } from "../../engines/group.ts";
import { MlxGroup } from "../../engines/mlx/mlx_group.ts";
import { setDefaultDevice } from "../../ffi/mod.ts";
import { runPeer } from "./group_peer.ts";

setDefaultDevice("cpu");
await runPeer({
  bind() {
    // MLX binds by itself, when it joins: this port was free a moment ago.
    using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    return listener.addr.port;
  },
  join: (spec: GroupSpec): Promise<Group> => MlxGroup.join(spec),
});
Deno.exit(0); // MLX may wait for ever.
