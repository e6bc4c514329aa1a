import { addTinyModel } from "./support/test_node.ts";
import { keepRunning } from "./verify/meta.ts";

Deno.test("a model that is declared runs again after each kill, parks, and is armed again", () =>
  keepRunning({
    kills: 2,
    maxRetries: 1,
    addModel: async (node, dir) => (await addTinyModel(node, `${dir}/tiny`)).modelId,
  }));
