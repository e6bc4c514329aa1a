/**
 * A rank whose sums MLX makes, over its ring of TCP, for the suite that every group runs. Of a group
 * called `late` only the first rank comes to MLX, and soon gives up.
 */
import type { GroupSpec } from "../../core/group.ts";
import type { Group } from "../../engines/group.ts";
import { SocketGroup } from "../../engines/group/socket_group.ts";
import { MlxGroup } from "../../engines/mlx/mlx_group.ts";
import { GroupListener } from "../../ffi/mod.ts";
import { freePort } from "./free_port.ts";
import { runPeer, sumOf } from "./group_peer.ts";

/** How long MLX may take where nobody comes. */
const LATE_MS = 300;

let listener: GroupListener | undefined;

/** Where MLX is to listen on all ranks, by rank: ports that were free a moment ago. */
function mlxHosts(frames: Group): string[] {
  const { rank, size } = frames;
  const hosts: string[] = [];
  hosts[rank] = `127.0.0.1:${freePort()}`;
  for (let at = rank; hosts.filter(Boolean).length < size;) {
    frames.send(new TextEncoder().encode(hosts[at]));
    at = (at + size - 1) % size;
    hosts[at] = new TextDecoder().decode(frames.receive(60_000));
  }
  return hosts;
}

await runPeer({
  bind() {
    listener = GroupListener.bind("127.0.0.1", 0);
    return listener.port;
  },
  async join(spec: GroupSpec): Promise<Group> {
    const frames = await SocketGroup.join(spec, listener);
    const place = { backend: "ring" as const, rank: spec.rank, hosts: mlxHosts(frames) };
    const isLate = spec.groupId === "late";
    if (isLate && spec.rank > 0) return frames;
    const joinFrames = () => Promise.resolve(frames);
    return await MlxGroup.join(spec, {
      ...{ place, joinFrames },
      ...(isLate ? { timeoutMs: LATE_MS } : {}),
    });
  },
  extra: (group, name, options) => name === "sum" ? sumOf(group, options) : undefined,
});
