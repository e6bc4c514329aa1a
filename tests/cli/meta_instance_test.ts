import { deepEqual, doesNotMatch, equal, match, ok } from "node:assert/strict";
import { InstanceId, MetaInstanceId } from "../../core/ids.ts";
import { cardOf, type FakeGateway, NODE, TINY } from "../support/fake_gateway.ts";
import { FakeNode } from "./fake_io.ts";

const CREATE = ["meta-instance", "create", "tiny"];

/** A node that knows the model TINY. */
async function knowing(): Promise<FakeNode> {
  const node = await FakeNode.start();
  node.gateway.addCard(cardOf());
  return node;
}

async function created(node: FakeNode, ...flags: readonly string[]): Promise<MetaInstanceId> {
  const { metaInstanceId } = await node.json([...CREATE, ...flags]) as { metaInstanceId: string };
  return MetaInstanceId.parse(metaInstanceId);
}

/** The instance that was made for a wish. */
function instanceOf({ gateway }: FakeNode, id: MetaInstanceId): InstanceId {
  const found = [...gateway.state().instances.values()].find((one) => one.metaInstanceId === id);
  ok(found);
  return found.instanceId;
}

Deno.test("meta-instance create declares a wish with all that its flags say", async () => {
  await using node = await knowing();
  const flags = "--node test --exact --exclude test --min-nodes 1 --sharding pipeline " +
    "--transport ring --prefer widest --memory-limit test=8GiB --force --context 100 " +
    "--max-retries 5 --pin strict";
  const { code, stderr } = await node.run([...CREATE, ...flags.split(" ")]);
  // It must contain and not contain the node: what cannot be is said at once.
  equal(code, 1, stderr);
  const id = await created(node, ...flags.replace("--exclude test ", "").split(" "));
  const meta = node.gateway.state().metaInstances.get(id);
  const wanted = {
    modelId: TINY,
    nodeIds: [NODE],
    exact: true,
    prefer: "widest",
    memoryLimits: { [NODE]: 2 ** 33 },
    force: true,
    config: { contextTokens: 100 },
    maxRetries: 5,
    pin: "strict",
  };
  deepEqual({ ...meta, ...wanted }, meta);
});

Deno.test("meta-instance create says what it has made, and exits with 4 for no model", async () => {
  await using node = await knowing();
  const { code, stdout } = await node.run(CREATE);
  equal(code, 0);
  match(stdout, /^Meta-instance id-\d+ of local\/tiny-0123abcd is created\n$/);
  const unknown = await node.run(["meta-instance", "create", "tinny-0123"]);
  equal(unknown.code, 4);
  match(unknown.stderr, /hint: did you mean local\/tiny-0123abcd\?/);
});

Deno.test("meta-instance create refuses tables that it cannot read", async () => {
  await using node = await knowing();
  const stderr = async (...flags: string[]) => {
    const { code, stderr } = await node.run([...CREATE, ...flags]);
    equal(code, 2);
    return stderr;
  };
  match(await stderr("--layers", "a=b"), /--layers "a=b": NODE=N with a whole number/);
  match(await stderr("--layers", "a=1,a=2"), /--layers "a" twice/);
  match(await stderr("--memory-limit", "8GiB"), /--memory-limit "8GiB": NODE=BYTES, such as/);
  match(await stderr("--memory-limit", "a=much"), /"a=much": NODE=BYTES/);
});

/** Calls `then` once after the state, as it is now, has been read and told. */
function whenRead(gateway: FakeGateway, then: () => void): void {
  const read = gateway.state;
  gateway.state = () => {
    gateway.state = read;
    queueMicrotask(then);
    return read.call(gateway);
  };
}

Deno.test("meta-instance create --wait follows its instance until it is ready", async () => {
  await using node = await knowing();
  const { gateway } = node;
  gateway.onWatched = () => {
    const [meta] = gateway.state().metaInstances.values();
    if (meta?.phase !== "starting") return;
    const { metaInstanceId } = meta;
    const instanceId = instanceOf(node, metaInstanceId);
    gateway.setRunners(instanceId, { type: "RunnerLoading", layersLoaded: 3, totalLayers: 30 });
    whenRead(gateway, () => gateway.emit({ type: "MetaInstanceReady", metaInstanceId }));
  };
  const { code, stdout, stderr } = await node.run([...CREATE, "--wait"]);
  equal(code, 0, stderr);
  match(stderr, /^starting: loading 3\/30$/m);
  match(stdout, /is ready\n$/);
});

Deno.test("meta-instance create --wait exits with 1 once it is parked, with 5 when late", async () => {
  await using node = await knowing();
  const { gateway } = node;
  const late = await node.run([...CREATE, "--wait", "--timeout", "0.05"]);
  equal(late.code, 5);
  match(late.stderr, /Meta-instance \S+ is not ready after 0.05 s: starting\n/);
  gateway.onWatched = () => {
    for (const { metaInstanceId } of gateway.state().metaInstances.values()) {
      gateway.emit({ type: "MetaInstanceParked", metaInstanceId, reason: "bad weights" });
    }
  };
  const parked = await node.run([...CREATE, "--wait"]);
  equal(parked.code, 1);
  match(parked.stderr, /Meta-instance \S+ is parked: bad weights\n/);
  match(parked.stderr, /hint: .*exo meta-instance retry /);
});

Deno.test("meta-instance create --wait exits with 4 when somebody deletes it", async () => {
  await using node = await knowing();
  const { gateway } = node;
  gateway.onWatched = () => {
    for (const { metaInstanceId } of gateway.state().metaInstances.values()) {
      gateway.emit({ type: "MetaInstanceDeleted", metaInstanceId });
    }
  };
  const { code, stderr } = await node.run([...CREATE, "--wait"]);
  equal(code, 4);
  match(stderr, /was deleted before it was ready/);
});

Deno.test("meta-instance list and show tell how each wish fares, and why", async () => {
  await using node = await knowing();
  const { gateway } = node;
  deepEqual(await node.json(["meta-instance", "list"]), []);
  match((await node.run(["meta-instance", "list"])).stderr, /meta-instance create MODEL/);
  const id = await created(node);
  const instanceId = instanceOf(node, id);
  gateway.setRunners(instanceId, { type: "RunnerLoading", layersLoaded: 3, totalLayers: 30 });
  const loading = {
    metaInstanceId: id,
    modelId: TINY,
    phase: "starting",
    consecutiveFailures: 0,
    maxRetries: 3,
    instanceId,
    detail: "loading",
    layersLoaded: 3,
    totalLayers: 30,
  };
  deepEqual(await node.json(["meta-instance", "list"]), [loading]);
  const listed = (await node.run(["meta-instance", "list"])).stdout;
  match(listed, /^META-INSTANCE +MODEL +PHASE +RETRIES +INSTANCE\n/);
  match(listed, /starting: loading 3\/30 +0 of 3 +id-\d+\n/);
  const shown = await node.json(["meta-instance", "show", id]) as { metaInstance: object };
  equal((shown.metaInstance as { prefer: string }).prefer, "smallest");
  gateway.emit({
    type: "InstanceRetrying",
    instanceId,
    failureError: "test machine: out of memory",
    notBefore: 1_750_000_000_000,
  });
  const retried = (await node.run(["meta-instance", "list"])).stdout;
  match(retried, /INSTANCE +REASON\n/);
  match(retried, /retrying at \d\d:\d\d:\d\d +1 of 3 +id-\d+ +test machine: out of memory\n/);
  const words = (await node.run(["meta-instance", "show", id])).stdout;
  match(words, /^last failure {3}test machine: out of memory$/m);
  match(words, /^retries {8}1 of 3 in a row$/m);
});

Deno.test("meta-instance list tells why a wish has no place", async () => {
  await using node = await knowing();
  const id = await created(node, "--min-nodes", "2");
  const { stdout } = await node.run(["meta-instance", "list"]);
  match(stdout, /placing +0 of 3 +- +\S.*\n$/);
  const [meta] = await node.json(["meta-instance", "list"]) as { placementError: string }[];
  ok(meta?.placementError);
  match((await node.run(["meta-instance", "show", id])).stdout, /^no place {7}\S/m);
});

Deno.test("meta-instance retry arms a parked wish again, delete ends it", async () => {
  await using node = await knowing();
  const { gateway } = node;
  const metaInstanceId = await created(node);
  gateway.emit({ type: "MetaInstanceParked", metaInstanceId, reason: "no luck" });
  match((await node.run(["meta-instance", "list"])).stdout, /parked .* no luck\n/);
  deepEqual(await node.json(["meta-instance", "retry", metaInstanceId]), { metaInstanceId });
  doesNotMatch((await node.run(["meta-instance", "list"])).stdout, /parked/);
  deepEqual(await node.json(["meta-instance", "delete", metaInstanceId]), { metaInstanceId });
  deepEqual([...gateway.state().instances.keys()], []);
  for (const verb of ["show", "retry", "delete"]) {
    equal((await node.run(["meta-instance", verb, metaInstanceId])).code, 4, verb);
  }
});
