import { deepEqual, equal, match } from "node:assert/strict";
import { nearModels } from "../../cli/suggest.ts";
import { ModelId } from "../../core/ids.ts";
import { cardOf } from "../support/fake_gateway.ts";
import { FakeNode } from "./fake_io.ts";

const IDS = ["local/smollm2-135m-0123abcd", "local/llama-3.2-1b-4567", "org/Mistral-7B"]
  .map((id) => ModelId.parse(id));

Deno.test("nearModels() finds what was meant behind a few slips, the nearest first", () => {
  const [smol, llama, mistral] = IDS;
  const cases: [string, unknown[]][] = [
    ["smolm2", [smol]],
    ["SMOLLM2-135n", [smol]],
    ["135m", [smol]],
    ["local/lama-3.2", [llama]],
    ["mitsral", [mistral]],
    ["org/mistral-8b", [mistral]],
    ["gpt-oss", []],
    ["ab", []],
    ["", []],
  ];
  for (const [typed, found] of cases) deepEqual(nearModels(typed, IDS), found, typed);
});

Deno.test("a misspelt model is answered with the one that was meant", async () => {
  await using node = await FakeNode.start();
  node.gateway.addCard(cardOf());
  const lines = [
    ["run", "tinny-0123", "hi"],
    ["instance", "create", "tinny-0123"],
    ["models", "show", "tinny-0123"],
    ["models", "remove", "tinny-0123"],
  ];
  for (const argv of lines) {
    const { code, stderr } = await node.run(argv);
    equal(code, 4, argv.join(" "));
    match(stderr, /hint: did you mean local\/tiny-0123abcd\?\n$/, argv.join(" "));
  }
  const { stderr } = await node.run(["models", "remove", "something"]);
  match(stderr, /hint: exo models list shows what there is/);
});
