import { ensureSetup } from "../ffi/setup.ts";
import { whyNoNetwork } from "../bench/netns.ts";
import { discoverLast } from "./verify/network.ts";
import { partitionAndHeal } from "./verify/partitions.ts";
import { killMaster } from "./verify/succession.ts";

/** The short forms of `deno task verify network` and `deno task verify partitions`. */
const why = await whyNoNetwork();
const told = why === undefined ? "" : ` (${why})`;

function withNetwork(name: string, run: () => Promise<void>): void {
  Deno.test({
    name: name + told,
    ignore: why !== undefined,
    async fn() {
      await ensureSetup();
      await run();
    },
  });
}

const quiet = () => {};

withNetwork("three nodes on a network find each other within 2 s", () => discoverLast(quiet));

withNetwork(
  "kill -9 of the master loses and repeats no token of an answer by the others",
  () => killMaster(quiet),
);

withNetwork(
  "two sides of a partition become one again, without anything twice",
  // Its one partition lasts 4.8 s: long enough for both sides to do as they are asked, which has to
  // be merged; one takes something away, the other has something created.
  () => partitionAndHeal({ seed: 112, from: 1, to: 1, say: quiet }),
);
