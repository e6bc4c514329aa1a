import { deepEqual, equal } from "node:assert/strict";
import { RunnerId } from "../../../core/ids.ts";
import { MIB } from "../../../core/units.ts";
import { Gpu } from "../../../node/info/gpu.ts";
import { FakeMachine } from "../../support/fake_machine.ts";

const SMI = (id: string) =>
  `nvidia-smi --id=${id} --query-gpu=memory.total,memory.free,utilization.gpu,temperature.gpu,` +
  "power.draw --format=csv,noheader,nounits";

/** A GPU that is watched; `sampleCount` of samples have been heard of. */
function watched(machine: FakeMachine) {
  const stop = new AbortController();
  const loaded: RunnerId[] = [];
  const heard = { sampleCount: 0, firstCount: 0 };
  const gpu = new Gpu(() => [...loaded]);
  const gathering = { sources: machine, signal: stop.signal, tell: () => {} };
  const ended = gpu.watch(gathering, {
    onSample: () => heard.sampleCount++,
    onFirst: () => heard.firstCount++,
  });
  return { gpu, stop, loaded, heard, ended };
}

/** A machine whose GPU `id` says this when it is asked once, and goes on when it is told to. */
function withGpu(id: string, first: string): FakeMachine {
  const machine = new FakeMachine();
  machine.commands.set(SMI(id), first);
  machine.commands.set(`${SMI(id)} --loop-ms=2000`, "");
  return machine;
}

Deno.test("without nvidia-smi there is no GPU, no process, and nothing to wait for", async () => {
  const machine = new FakeMachine();
  const { gpu, heard, ended } = watched(machine);
  await ended;
  await machine.pass(600_000);
  deepEqual([gpu.sample, gpu.memory(), machine.ran], [undefined, undefined, [SMI("0")]]);
  deepEqual(heard, { sampleCount: 0, firstCount: 1 });
});

Deno.test("a GPU is asked once, then followed by one process", async () => {
  const machine = withGpu("1", "100, 60, 50, 40, 30\n");
  machine.variables = { CUDA_VISIBLE_DEVICES: "1,2" };
  const { gpu, stop, ended, heard } = watched(machine);
  await machine.pass();
  const memory = (availableMib: number) => ({
    gpu: { totalBytes: 100 * MIB, availableBytes: availableMib * MIB },
    loadedRunners: [],
  });
  deepEqual(gpu.memory(), memory(60));
  machine.say("nvidia-smi", "No devices were found");
  machine.say("nvidia-smi", "100, 10, 50, 40, 30");
  deepEqual(gpu.memory(), memory(10));
  deepEqual(heard, { sampleCount: 2, firstCount: 1 });
  await machine.pass(600_000);
  equal(machine.ran.length, 2);
  stop.abort();
  await ended;
});

Deno.test("a GPU that is slow to wake is known by what follows", async () => {
  const machine = withGpu("0", "");
  const late = { ok: false as const, isMissing: false, reason: "it took longer than 10000 ms" };
  machine.commands.set(SMI("0"), late);
  const { gpu, stop, ended, heard } = watched(machine);
  await machine.pass();
  deepEqual([gpu.memory(), heard.firstCount], [undefined, 1]);
  machine.say("nvidia-smi", "100, 10, 50, 40, 30");
  equal(gpu.memory()?.gpu?.availableBytes, 10 * MIB);
  stop.abort();
  await ended;
});

Deno.test("runners count as loaded from the sample on that began after they were", async () => {
  const line = "100, 60, 0, 40, 30";
  const machine = withGpu("0", line);
  const { gpu, stop, loaded, ended } = watched(machine);
  const [one, two] = [RunnerId.parse("i:0"), RunnerId.parse("j:0")];
  const sample = () => machine.say("nvidia-smi", line);
  const inMemory = () => gpu.memory()?.loadedRunners;
  await machine.pass();
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
  const machine = withGpu("0", "[N/A], [N/A], 3, 41, 11.20");
  const { gpu, stop, ended } = watched(machine);
  await machine.pass();
  deepEqual([gpu.memory(), gpu.sample?.powerWatts], [undefined, 11.2]);
  stop.abort();
  await ended;
});
