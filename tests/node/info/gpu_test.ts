import { deepEqual, equal } from "node:assert/strict";
import { RunnerId } from "../../../core/ids.ts";
import { MIB } from "../../../core/units.ts";
import { FIRST_SAMPLE_MS_MAX, Gpu } from "../../../node/info/gpu.ts";
import { FakeMachine } from "../../support/fake_machine.ts";

const SMI = (id: string) =>
  `nvidia-smi --id=${id} --query-gpu=memory.total,memory.free,utilization.gpu,temperature.gpu,` +
  "power.draw --format=csv,noheader,nounits --loop-ms=2000";

/** A GPU that is watched; `sampleCount` of samples have been heard of. */
function watched(machine: FakeMachine) {
  const stop = new AbortController();
  const loaded: RunnerId[] = [];
  const heard = { sampleCount: 0 };
  const gpu = new Gpu(() => [...loaded]);
  const gathering = { sources: machine, signal: stop.signal, tell: () => {} };
  const watching = gpu.watch(gathering, () => heard.sampleCount++);
  return { gpu, stop, loaded, heard, watching };
}

Deno.test("without nvidia-smi there is no GPU, no process, and nothing to wait for", async () => {
  const machine = new FakeMachine();
  const { gpu, watching } = watched(machine);
  await (await watching).ended;
  await machine.pass(600_000);
  deepEqual([gpu.sample, gpu.memory(), machine.ran.length], [undefined, undefined, 1]);
});

Deno.test("a node waits for its GPU's first word, and no longer than 3 s", async () => {
  const machine = new FakeMachine();
  machine.variables = { CUDA_VISIBLE_DEVICES: "1,2" };
  machine.commands.set(SMI("1"), "");
  const { gpu, stop, watching, heard } = watched(machine);
  await machine.pass();
  machine.say("nvidia-smi", "No devices were found");
  machine.say("nvidia-smi", "100, 60, 50, 40, 30");
  const { ended } = await watching;
  deepEqual(gpu.memory(), {
    gpu: { totalBytes: 100 * MIB, availableBytes: 60 * MIB },
    loadedRunners: [],
  });
  equal(heard.sampleCount, 1);
  stop.abort();
  await ended;
  const slow = new FakeMachine();
  slow.commands.set(SMI("0"), "");
  const silent = watched(slow);
  await slow.pass(FIRST_SAMPLE_MS_MAX);
  silent.stop.abort();
  await (await silent.watching).ended;
  equal(silent.gpu.sample, undefined);
});

Deno.test("runners count as loaded from the sample on that began after they were", async () => {
  const machine = new FakeMachine();
  machine.commands.set(SMI("0"), "");
  const { gpu, stop, loaded, watching } = watched(machine);
  const [one, two] = [RunnerId.parse("i:0"), RunnerId.parse("j:0")];
  const sample = () => machine.say("nvidia-smi", "100, 60, 0, 40, 30");
  const inMemory = () => gpu.memory()?.loadedRunners;
  await machine.pass();
  sample();
  const { ended } = await watching;
  loaded.push(one);
  deepEqual(inMemory(), [], "the sample is older");
  sample();
  deepEqual(inMemory(), [], "it may have been taken before");
  sample();
  deepEqual(inMemory(), [one]);
  loaded.push(two);
  sample();
  deepEqual(inMemory(), [one]);
  loaded.splice(0, 1);
  deepEqual(inMemory(), [], "a runner that is gone is in no memory");
  stop.abort();
  await ended;
});

Deno.test("a GPU that shares the machine's memory has none of its own", async () => {
  const machine = new FakeMachine();
  machine.commands.set(SMI("0"), "");
  const { gpu, stop, watching } = watched(machine);
  await machine.pass();
  machine.say("nvidia-smi", "[N/A], [N/A], 3, 41, 11.20");
  const { ended } = await watching;
  deepEqual([gpu.memory(), gpu.sample?.powerWatts], [undefined, 11.2]);
  stop.abort();
  await ended;
});
