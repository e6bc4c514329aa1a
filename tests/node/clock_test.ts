import assert from "node:assert/strict";
import { TextGenerationPayload } from "../../core/task.ts";
import { Millis } from "../../core/units.ts";
import { SYSTEM_CLOCK } from "../../node/clock.ts";
import { TempDir } from "../support/temp_dir.ts";
import {
  addTinyModel,
  ask,
  collect,
  createInstance,
  startTestNode,
  textOf,
  until,
  untilReady,
  writeScript,
} from "../support/test_node.ts";
import { WrongClock } from "../support/wrong_clock.ts";

const DAY_MS = 86_400_000;

Deno.test("the system's clock gives whole milliseconds, fresh ids and 64-bit seeds", () => {
  assert.ok(Millis.parse(SYSTEM_CLOCK.now()) > 1_600_000_000_000);
  const before = Millis.parse(SYSTEM_CLOCK.uptime());
  assert.ok(SYSTEM_CLOCK.uptime() >= before);
  assert.match(SYSTEM_CLOCK.newId(), /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-/);
  assert.notEqual(SYSTEM_CLOCK.newId(), SYSTEM_CLOCK.newId());
  for (let n = 0; n < 100; n++) {
    const seed = SYSTEM_CLOCK.newSeed();
    assert.ok(BigInt(seed) < 2n ** 64n);
    TextGenerationPayload.shape.seed.parse(seed);
  }
});

Deno.test("a clock that is turned back by a day does not put off a retry by a day", async () => {
  await using dir = await TempDir.make();
  const clock = new WrongClock();
  const node = await startTestNode(`${dir.path}/data`, { failIn: "load" }, { clock });
  try {
    const { modelId } = await addTinyModel(node, `${dir.path}/tiny`);
    const placed = createInstance(node, modelId);
    await until(node, "it has failed", ({ instanceRetries }) => instanceRetries.size === 1);
    await writeScript(`${dir.path}/data`, {});
    clock.offsetMs = -DAY_MS;
    await placed;
  } finally {
    await node.stop();
  }
});

Deno.test("a clock that jumps leaves runners, answers and the log alone", async () => {
  await using dir = await TempDir.make();
  const clock = new WrongClock();
  const dataDir = `${dir.path}/data`;
  const node = await startTestNode(dataDir, { stepMs: 5 }, { clock });
  const { modelId } = await addTinyModel(node, `${dir.path}/tiny`);
  const instanceId = await createInstance(node, modelId);
  const pids = [...node.runnerPids().values()];
  for (const offsetMs of [400 * DAY_MS, -400 * DAY_MS, 0]) {
    const text = "one two three four five six seven eight";
    const { chunks } = await node.generate(modelId, ask(text), new AbortController().signal);
    clock.offsetMs = offsetMs;
    assert.equal(textOf(await collect(chunks)), text);
    assert.deepEqual([...node.runnerPids().values()], pids, "no runner was restarted");
  }
  await node.stop();
  // What the log has of other times is no more than data.
  clock.offsetMs = -400 * DAY_MS;
  const again = await startTestNode(dataDir, {}, { clock });
  await untilReady(again, instanceId);
  await again.stop();
});
