/** The ranks are processes, since a process is of one group at most. */
import { deepEqual, equal, match } from "node:assert/strict";
import { AppError } from "../../../core/errors.ts";
import { GroupSpec } from "../../../core/group.ts";
import { MlxGroup } from "../../../engines/mlx/mlx_group.ts";
import { MlxRank, MlxRanks, ringSpecs } from "../../support/mlx_ranks.ts";

/** What a rank tells of a frame that it was sent. */
async function frameOf(rank: MlxRank, patience = 200): Promise<unknown> {
  for (let tries = 0; tries < patience; tries++) {
    const told = await rank.does("receive", 100);
    if (told !== null) return told;
  }
  throw new Error("no frame came");
}

async function failureOf(rank: MlxRank): Promise<{ code: string; message: string }> {
  for (let tries = 0; tries < 200; tries++) {
    const told = await rank.does("receive", 100);
    if (told !== null) return told as { code: string; message: string };
  }
  throw new Error("nothing failed");
}

for (const size of [2, 3]) {
  Deno.test(`${size} ranks sum, gather and pass frames around the ring in order`, async () => {
    await using group = await MlxRanks.start(size);
    const { ranks } = group;
    deepEqual(await group.all("sum", 2, 3), ranks.map(() => [2 * size, 2 * size, 2 * size]));
    const gathered = await Promise.all(ranks.map((rank, at) => rank.does("gather", at)));
    const joined = ranks.flatMap((_, at) => [at, at]);
    deepEqual(gathered, ranks.map(() => joined));
    // All byte values, nothing at all, and more than sockets hold, in both directions at once.
    const sizes = [256, 0, 3, 3_000_000, 1];
    const sent: unknown[][] = [];
    for (const count of sizes) {
      sent.push(await Promise.all(ranks.map((rank, at) => rank.does("send", at, count))));
    }
    for (const [which, count] of sizes.entries()) {
      for (const [at, rank] of ranks.entries()) {
        const before = (at + size - 1) % size;
        deepEqual(await frameOf(rank), [count, sent[which]?.[before]]);
      }
    }
    deepEqual(await group.all("sum", 1, 1), ranks.map(() => [size]), "and sum again");
  });
}

Deno.test("a rank waits as long as it was told, and hears of a frame when it comes", async () => {
  await using group = await MlxRanks.start(2);
  const [first, second] = group.ranks as [MlxRank, MlxRank];
  equal(await first.does("receive", 0), null);
  equal(await first.does("receive", 20), null);
  const arrived = first.does("arrival");
  const sent = await second.does("send", 7, 10);
  equal(await arrived, "arrived");
  deepEqual(await first.does("receive", 0), [10, sent]);
});

Deno.test("a rank whose neighbour dies says which", async () => {
  await using group = await MlxRanks.start(3);
  const [first, second, third] = group.ranks as [MlxRank, MlxRank, MlxRank];
  equal(await third.does("receive", 0), null);
  await second.kill();
  const { code, message } = await failureOf(third);
  equal(code, "group_broken");
  match(message, /^Rank 1 on "node 1" cannot be reached any more: \[ring\] /);
  equal(await first.does("receive", 0), null, "its neighbours are others");
});

Deno.test("a rank that nobody meets says whom it waits for, and when it gave up", async () => {
  const [spec] = ringSpecs(2);
  await using rank = new MlxRank(spec, 500);
  const { code, message } = await rank.told() as { code: string; message: string };
  equal(code, "group_broken");
  match(message, /^Cannot form a group with rank 1 on "node 1": not all of them came within 0.5 s/);
});

Deno.test("a group over RDMA needs an MLX that has it", async () => {
  if (Deno.build.os === "darwin") return;
  const devices = [[null, "rdma_en3"], ["rdma_en3", null]];
  const spec = GroupSpec.parse({
    ...{ groupId: "test", rank: 0, size: 2, names: ["a", "b"] },
    link: { type: "jaccl", devices, coordinator: "127.0.0.1:1" },
  });
  const failed = await MlxGroup.join(spec).catch((cause) => cause);
  equal(failed instanceof AppError && failed.code, "group_broken");
  match(failed.message, /over jaccl: the MLX of this machine lacks it/);
});
