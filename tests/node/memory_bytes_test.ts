import assert from "node:assert/strict";
import { InstanceId } from "../../core/ids.ts";
import { bytesByNode } from "../../core/memory_fit.ts";
import { PlacementRequest } from "../../core/placement_request.ts";
import type { Node } from "../../node/node.ts";
import { TempDir } from "../support/temp_dir.ts";
import { addTinyModel, commandId, startTestNode, untilReady } from "../support/test_node.ts";

/** Places a model with a short context, in which weights are most of what it takes. */
async function place(node: Node, modelId: string): Promise<InstanceId> {
  const instanceId = InstanceId.parse(node.newId());
  const request = PlacementRequest.parse({ modelId, config: { contextTokens: 1 } });
  await node.submit({ type: "PlaceInstance", commandId: commandId(node), instanceId, request });
  await untilReady(node, instanceId);
  return instanceId;
}

Deno.test("memory that a node is said to have is taken by what is loaded, too", async () => {
  await using dir = await TempDir.make();
  const data = `${dir.path}/data`;
  const first = await startTestNode(data);
  const { modelId } = await addTinyModel(first, `${dir.path}/tiny`);
  const instanceId = await place(first, modelId);
  const instance = first.state().instances.get(instanceId);
  assert.ok(instance);
  await first.submit({ type: "DeleteInstance", commandId: commandId(first), instanceId });
  await first.stop();
  const needed = [...bytesByNode(instance).values()].reduce((sum, one) => sum + one, 0);
  const node = await startTestNode(data, {}, { memoryBytes: Math.ceil(1.5 * needed) });
  try {
    await place(node, modelId);
    await assert.rejects(() => place(node, modelId), /Cannot place .* free, .* needed/);
  } finally {
    await node.stop();
  }
});
