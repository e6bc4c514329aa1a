import { equal } from "node:assert/strict";
import { Follower } from "../../engines/group/follower.ts";
import { GroupDecoder } from "../../engines/group/group_decoder.ts";
import { ArithmeticDecoder, type ArithmeticPart, HIDDEN } from "./arithmetic_decoder.ts";
import { LocalRing } from "./local_group.ts";

interface Options extends Partial<ArithmeticPart> {
  readonly mayPass?: () => boolean;
  /** What each rank says that it has room for, whenever it is asked. */
  readonly blocksMax?: readonly number[];
  /** Of each rank's model files. */
  readonly fingerprints?: readonly string[];
}

/** A model of arithmetic over the ranks of a pipeline, all in one thread. */
export class ArithmeticGroup implements Disposable {
  readonly ring: LocalRing;
  readonly parts: readonly ArithmeticDecoder[];
  readonly decoder: GroupDecoder;
  readonly followers: readonly Follower[];

  constructor(
    size: number,
    { layers = 2 * size - 1, mayPass, blocksMax = [], fingerprints = [], ...part }: Options = {},
  ) {
    this.ring = new LocalRing(size, mayPass);
    const border = (rank: number) => Math.round(rank * layers / size);
    this.parts = this.ring.groups.map((_, rank) =>
      new ArithmeticDecoder({ ...part, layers, from: border(rank), to: border(rank + 1) })
    );
    const now = () => 0;
    const fingerprint = (rank: number) => fingerprints[rank] ?? "w";
    const [first, ...others] = this.ring.groups.map((group, rank) => {
      const part = this.parts[rank];
      if (!part) throw new Error("each rank has a part");
      return { group, part };
    });
    if (!first) throw new Error("there is a first rank");
    this.decoder = new GroupDecoder({
      ...{ ...first, split: "pipeline", fingerprint: fingerprint(0), now },
    });
    this.followers = others.map(({ group, part }) => {
      using empty = part.makeCache();
      const blockBytes = empty.bytesFor(part.blockPositions);
      const follower = new Follower({
        ...{
          group,
          part,
          split: "pipeline",
          hiddenSize: HIDDEN,
          firstLayer: border(group.rank),
          now,
        },
        fingerprint: fingerprint(group.rank),
        kvBudgetBytes: () => (blocksMax[group.rank] ?? Infinity) * blockBytes,
        weights: { [Symbol.dispose]: () => {} },
      });
      this.ring.follow(group.rank, () => {
        if (!follower.hasWork()) return false;
        for (const _ of follower.step());
        return true;
      });
      return follower;
    });
  }

  /** Lets the others do what they were told, and sees that they hold what the first one holds. */
  settle(): number {
    this.decoder.flush();
    while (this.ring.moveOne());
    const blocks = this.parts.map((part) => {
      using empty = part.makeCache();
      return part.cacheBytes / empty.bytesFor(part.blockPositions);
    });
    for (const count of blocks) equal(count, blocks[0], "all ranks hold the same blocks");
    return this.decoder.cacheBytes;
  }

  [Symbol.dispose](): void {
    this.decoder[Symbol.dispose]();
    for (const follower of this.followers) follower.close();
  }
}
