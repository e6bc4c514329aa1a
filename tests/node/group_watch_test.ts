import assert from "node:assert/strict";
import type { Event } from "../../core/events.ts";
import type { NodeId, RunnerId } from "../../core/ids.ts";
import { GroupWatch, PING_MS } from "../../node/group_watch.ts";
import type { Rank } from "../../node/rank.ts";
import { FakeTime } from "../support/fake_time.ts";
import {
  A,
  B,
  created,
  fold,
  instanceOf,
  nodeStarted,
  runnerId,
  statusOf,
  taskCreated,
  taskId,
  taskOf,
} from "../support/fixtures.ts";

/** A rank of an instance that serves, and what it is asked and told. */
class NotedRank {
  readonly instanceId;
  readonly isOfGroup: boolean;
  readonly stopping = false;
  readonly status = statusOf("RunnerRunning");
  pings = 0;
  suspects: readonly string[] = [];

  constructor(id: string, isOfGroup: boolean) {
    this.instanceId = instanceOf(id).instanceId;
    this.isOfGroup = isOfGroup;
  }

  ping(): void {
    this.pings++;
  }

  suspect(names: readonly string[]): void {
    this.suspects = names;
  }
}

/** A watch over a group and a rank that works alone. */
function watchOf({ events = [], pingsAll = false, isThere = () => true }: {
  events?: readonly Event[];
  pingsAll?: boolean;
  isThere?: (nodeId: NodeId) => boolean;
}) {
  const instances = [created(instanceOf("group", [A, B])), created(instanceOf("alone"))];
  const state = fold([nodeStarted(A), nodeStarted(B), ...instances, ...events]);
  const group = new NotedRank("group", true);
  const alone = new NotedRank("alone", false);
  const ranks = new Map([[runnerId("group:0"), group], [runnerId("alone:0"), alone]]);
  const watch = new GroupWatch(ranks as unknown as ReadonlyMap<RunnerId, Rank>, {
    ...{ state: () => state, isThere, newId: () => taskId("p"), pingsAll },
  });
  return { watch, group, alone };
}

const work = ["group", "alone"].map((id) => taskCreated(taskOf(`of ${id}`, id)));

for (const [pingsAll, expected] of [[false, [3, 0]], [true, [3, 3]]] as const) {
  const which = pingsAll ? "all ranks, where nothing else tells of them," : "ranks of groups";
  Deno.test(`${which} are asked for a sign of life while there is work`, async () => {
    using time = new FakeTime();
    const { watch, group, alone } = watchOf({ events: work, pingsAll });
    watch.look();
    await time.pass(3 * PING_MS);
    assert.deepEqual([group.pings, alone.pings], expected);
    watch.stop();
    assert.equal(time.armedCount, 0);
  });
}

Deno.test("nobody is asked where there is no work", () => {
  using time = new FakeTime();
  watchOf({ pingsAll: true }).watch.look();
  assert.equal(time.armedCount, 0);
});

Deno.test("a rank is told which nodes of its group are out of reach", () => {
  using _time = new FakeTime();
  const { watch, group, alone } = watchOf({ isThere: (nodeId) => nodeId === A });
  watch.look();
  assert.deepEqual([group.suspects, alone.suspects], [[B], []]);
});
