import { deepEqual, equal } from "node:assert/strict";
import { firstGpu, parseNvidiaSmi } from "../../../node/info/nvidia_smi.ts";
import { MIB } from "../../../core/units.ts";
import { golden } from "../../support/fake_machine.ts";

Deno.test("a line of nvidia-smi has memory in MiB, usage in percent, and gaps in brackets", async () => {
  const [idle = "", busy = "", shared = ""] = (await golden("nvidia_smi.csv")).split("\n");
  deepEqual(parseNvidiaSmi(idle), {
    memory: { totalBytes: 143_771 * MIB, availableBytes: 143_166 * MIB },
    usage: 0,
    temperatureCelsius: 31,
    powerWatts: 76.42,
  });
  equal(parseNvidiaSmi(busy)?.usage, 1);
  deepEqual(parseNvidiaSmi(shared), {
    memory: undefined,
    usage: 0.03,
    temperatureCelsius: 41,
    powerWatts: 11.2,
  });
});

Deno.test("what else it says is no sample", () => {
  for (
    const line of [
      "",
      "No devices were found",
      "1, 2, 3, 4",
      "1, 2, 3, 4, 5, 6",
      "memory.total [MiB], memory.free [MiB], utilization.gpu [%], temperature.gpu, power.draw [W]",
    ]
  ) equal(parseNvidiaSmi(line), undefined, line);
});

Deno.test("the first GPU that runners may see is looked at", () => {
  equal(firstGpu(undefined), "0");
  equal(firstGpu(""), "0");
  equal(firstGpu("2,3"), "2");
  equal(firstGpu("GPU-0a1b-22,GPU-3"), "GPU-0a1b-22");
  equal(firstGpu("-1"), "0", "none at all: what is said is of no use, and does no harm");
  equal(firstGpu("--help"), "0");
});
