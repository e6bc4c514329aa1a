import assert from "node:assert/strict";
import { GroupSpec, groupSpecOf } from "../../core/group.ts";
import { Instance } from "../../core/instance.ts";
import { A, B, C, instanceOf, runnerId } from "../support/fixtures.ts";

const hosts = [{ ip: "10.0.0.1", port: 50_000 }, { ip: "10.0.0.2", port: 50_000 }];
const ring = Instance.parse({
  ...instanceOf("i", [A, B]),
  hostsByNode: { [A]: hosts, [B]: hosts.toReversed() },
  ephemeralPort: 50_000,
});
const incarnations = new Map([[runnerId("i:0"), 3], [runnerId("i:1"), 7]]);
const names = new Map([[A, "mini"]]);
const specOf = (instance: Instance, nodeId = A) =>
  groupSpecOf(instance, { nodeId, incarnations, names });

Deno.test("a rank is told where it stands, whom it meets and where", () => {
  const first = specOf(ring);
  assert.deepEqual(first, {
    ...{ groupId: "i/3.7", rank: 0, size: 2, names: ["mini", B] },
    link: { type: "ring", hosts },
  });
  assert.deepEqual(GroupSpec.parse(first), first);
  const second = specOf(ring, B);
  assert.deepEqual([second?.rank, second?.groupId], [1, "i/3.7"], "all are of the same processes");
  assert.deepEqual(second?.link, { type: "ring", hosts: hosts.toReversed() });
});

Deno.test("a group of other processes has another name", () => {
  const started = (count: number) =>
    groupSpecOf(ring, { nodeId: A, incarnations: new Map([[runnerId("i:0"), count]]), names });
  assert.equal(started(4)?.groupId, "i/4.?");
  assert.notEqual(started(5)?.groupId, started(4)?.groupId);
});

Deno.test("ranks of RDMA are told their ring, the devices and the coordinator", () => {
  const { ephemeralPort: _, ...common } = ring as Instance & { ephemeralPort: unknown };
  const devices = [[null, "rdma_en2"], ["rdma_en3", null]];
  const jaccl = Instance.parse({
    ...common,
    type: "MlxJacclInstance",
    jacclDevices: devices,
    jacclCoordinators: { [A]: "10.0.0.1:50000" },
  });
  const link = { type: "jaccl", hosts, devices, coordinator: "10.0.0.1:50000" };
  assert.deepEqual(specOf(jaccl)?.link, link);
  assert.equal(specOf(jaccl, B), undefined, "nobody has said where it finds the first");
});

Deno.test("who has no rank, or is alone, or has no hosts, has no group", () => {
  assert.equal(specOf(ring, C), undefined);
  assert.equal(specOf(instanceOf("i")), undefined);
  assert.equal(specOf(instanceOf("i", [A, B])), undefined);
});
