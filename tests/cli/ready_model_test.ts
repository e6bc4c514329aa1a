import { equal, match } from "node:assert/strict";
import { modelPath } from "../../cli/ready_model.ts";
import { MetaInstanceId } from "../../core/ids.ts";
import { MetaInstance } from "../../core/meta_instance.ts";
import { cardOf } from "../support/fake_gateway.ts";
import { A, instanceOf } from "../support/fixtures.ts";
import { TempDir } from "../support/temp_dir.ts";
import { FakeNode } from "./fake_io.ts";

Deno.test("modelPath() tells paths from ids", async () => {
  await using dir = await TempDir.make();
  await Deno.mkdir(`${dir.path}/checkpoint`);
  const at = { cwd: dir.path, home: "/home/someone" };
  const cases: [string, string | undefined][] = [
    ["/models/m.gguf", "/models/m.gguf"],
    ["./m", `${dir.path}/m`],
    ["../m", new URL(`file://${dir.path}/../m`).pathname],
    [".", dir.path],
    ["~", "/home/someone"],
    ["~/models/m", "/home/someone/models/m"],
    ["M.GGUF", `${dir.path}/M.GGUF`],
    ["checkpoint", `${dir.path}/checkpoint`],
    ["local/smollm2", undefined],
    ["smollm2", undefined],
    [".hidden", undefined],
  ];
  for (const [wanted, path] of cases) equal(modelPath(wanted, at), path, wanted);
});

Deno.test("run adds a model that is named by its path, then asks it", async () => {
  await using node = await FakeNode.start();
  const { gateway } = node;
  gateway.files.set("/work/here/tiny.gguf", cardOf());
  gateway.readyWhatIsPlaced();
  for (const _ of ["first", "again"]) {
    const { code, stdout, stderr } = await node.run(["run", "tiny.gguf", "hi"]);
    equal(code, 0, stderr);
    equal(stdout, "Hello world\n");
  }
  equal(gateway.state().instances.size, 1);
  const missing = await node.run(["run", "./other.gguf", "hi"]);
  equal(missing.code, 4);
  match(missing.stderr, /"\/work\/here\/other\.gguf": there is no such file or folder/);
});

Deno.test("run sends no path to a node of another machine", async () => {
  await using node = await FakeNode.start();
  const url = "http://exo.invalid:1";
  const { code, stderr } = await node.run(["run", "./tiny.gguf", "hi", "--url", url]);
  equal(code, 2);
  match(stderr, /Cannot add \/work\/here\/tiny\.gguf to http:\/\/exo\.invalid:1: a node of this/);
  match(stderr, /hint: name a model that the node knows/);
});

Deno.test("run makes no instance beside a declared model, and tells what it waits for", async () => {
  await using node = await FakeNode.start();
  const { gateway } = node;
  gateway.addCard(cardOf());
  const { modelId } = cardOf();
  const metaInstanceId = MetaInstanceId.parse("wish");
  const metaInstance = MetaInstance.parse({ metaInstanceId, modelId });
  const reason = "node-a: OOM";
  gateway.emit({ type: "MetaInstanceCreated", metaInstance });
  gateway.emit({ type: "MetaInstanceParked", metaInstanceId, reason });
  const { code, stderr } = await node.run(["run", "tiny", "hi"]);
  equal(code, 4, stderr);
  match(stderr, /meta-instance wish is parked \(node-a: OOM\)/);
  match(stderr, /hint: mend that, then: exo meta-instance retry wish/);
  equal(gateway.state().instances.size, 0);
});

Deno.test("run does not wait for an instance of a node that is gone", async () => {
  await using node = await FakeNode.start();
  const { gateway } = node;
  gateway.addCard(cardOf());
  const { modelId } = cardOf();
  gateway.emit({ type: "InstanceCreated", instance: instanceOf("i", [A], { card: cardOf() }) });
  const { code, stderr } = await node.run(["run", "tiny", "hi"]);
  equal(code, 1, stderr);
  match(
    stderr,
    /Cannot run \S+: found no instance but 1 of nodes that are gone, one that is there/,
  );
  match(stderr, new RegExp(`hint: .*exo instance create ${modelId}`));
});
