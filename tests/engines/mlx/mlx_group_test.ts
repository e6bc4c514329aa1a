/**
 * Sums by MLX: over its ring of TCP, which stands for RDMA here. The ranks are processes, since one
 * is of one group of MLX's at most.
 */
import { equal, match, ok, throws } from "node:assert/strict";
import { join } from "node:path";
import { AppError } from "../../../core/errors.ts";
import type { GroupSpec } from "../../../core/group.ts";
import { SocketGroup } from "../../../engines/group/socket_group.ts";
import { MlxGroup } from "../../../engines/mlx/mlx_group.ts";
import { GroupListener } from "../../../ffi/mod.ts";
import { randomLlama } from "../../support/eight_heads_llama.ts";
import { Peer } from "../../support/group_peer.ts";
import { compareRanks } from "../../support/group_ranks.ts";
import { MLX_PEER_MAIN } from "../../support/programs.ts";
import { TempDir } from "../../support/temp_dir.ts";
import { bind, task } from "../golden.ts";

for (const sharding of ["pipeline", "tensor"] as const) {
  for (const sumsByMlx of [true, false]) {
    const sums = sumsByMlx ? "whose sums MLX makes" : "with sums of ours";
    Deno.test(`MLX's kernels answer over 2 ${sharding} ranks ${sums} what they answer on one`, async () => {
      await using dir = await TempDir.make();
      const path = join(dir.path, "llama");
      await randomLlama(path);
      // Chunks of a prompt whose logits nobody wants, and several sequences at once.
      const prompts = ["hello ".repeat(60), "Name three colours."];
      await compareRanks({
        ...{ size: 2, sharding, sumsByMlx, isPacked: false },
        model: bind(path, { prefillChunkTokens: 32 }),
        requests: prompts.map((prompt, i) =>
          task(`t${i}`, prompt, { maxTokens: 24, ignoreEos: true })
        ),
      });
    });
  }
}

Deno.test("a rank whose peers do not come to MLX says so, and leaves them", async () => {
  await using first = new Peer(MLX_PEER_MAIN);
  await using second = new Peer(MLX_PEER_MAIN);
  const peers = [first, second];
  const hosts = await Promise.all(peers.map(async (peer) => ({
    ip: "127.0.0.1",
    port: await peer.ask<number>({ type: "bind" }),
  })));
  const link = { type: "ring" as const, hosts };
  const specs = peers.map((_, rank) => ({
    ...{ groupId: "late", rank, size: 2, names: ["studio", "mini"], link },
  }));
  const [late, there] = await Promise.all([
    first.refusal({ type: "join", spec: specs[0] as typeof specs[number] }),
    second.ask({ type: "join", spec: specs[1] as typeof specs[number] }),
  ]);
  equal(
    late,
    'Cannot form a group with rank 1 on "mini": MLX has not found all of them within 0.3 s',
  );
  equal(there, null);
  const left = await second.refusal({ type: "receive", ms: 30_000 });
  match(left, /^Rank 0 on "studio" has left the group/);
});

Deno.test("why MLX forms no group is passed on, and the other ranks are left", async () => {
  const listeners = [0, 1].map(() => GroupListener.bind("127.0.0.1", 0));
  const hosts = listeners.map(({ port }) => ({ ip: "127.0.0.1", port }));
  const [first, second] = await Promise.all(listeners.map((listener, rank) => {
    const link = { type: "ring" as const, hosts };
    const spec = { groupId: "test/1", rank, size: 2, names: ["studio", "mini"], link };
    const joinFrames = (spec: GroupSpec) => SocketGroup.join(spec, listener);
    if (rank === 1) return joinFrames(spec);
    const place = { backend: "ring" as const, rank: 2, hosts: ["127.0.0.1:1", "127.0.0.1:2"] };
    return MlxGroup.join(spec, { place, joinFrames }).catch((error: AppError) => error);
  }));
  ok(first instanceof AppError && first.code === "group_broken");
  match(
    first.message,
    /^Cannot form a group with rank 1 on "mini": \[ring\] Rank cannot be larger/,
  );
  ok(second instanceof SocketGroup);
  throws(() => second.receive(30_000), { message: /^Rank 0 on "studio" has left the group/ });
  second[Symbol.dispose]();
});
