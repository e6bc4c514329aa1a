import { deepEqual, match } from "node:assert/strict";
import { CommandId, TaskId } from "../../core/ids.ts";
import { NODE, TINY } from "../support/fake_gateway.ts";
import { FakeNode } from "./fake_io.ts";

Deno.test("status shows nodes, memory, instances and tasks", async () => {
  await using node = await FakeNode.start();
  match((await node.run(["status"])).stdout, /No instances\n\nNo tasks\n$/);
  const instanceId = node.gateway.placeModel();
  const task = {
    type: "TextGeneration" as const,
    taskId: TaskId.parse("t-1"),
    commandId: CommandId.parse("t-1"),
    instanceId,
    modelId: TINY,
    apiNodeId: NODE,
    taskStatus: "Running" as const,
  };
  node.gateway.emit({ type: "TaskCreated", task });
  deepEqual(await node.json(["status"]), {
    nodes: [{
      nodeId: "node-1",
      name: "test machine",
      version: "0.1.0",
      isMaster: true,
      backends: ["MlxCpu"],
      ramTotalBytes: 16 * 2 ** 30,
      ramAvailableBytes: 8 * 2 ** 30,
    }],
    instances: [{ instanceId, modelId: TINY, status: "ready", nodeIds: ["node-1"] }],
    tasks: [{
      taskId: "t-1",
      type: "TextGeneration",
      instanceId,
      modelId: TINY,
      status: "Running",
    }],
  });
  const { stdout } = await node.run(["status"]);
  match(stdout, /test machine \(master\) +MlxCpu +8\.0 GiB free of 16\.0 GiB/);
  match(stdout, /t-1 +local\/tiny-0123abcd +Running/);
});
