import type { NodeSystem } from "../../core/telemetry.ts";
import { type CoreTimes, usageBetween } from "./cpu_usage.ts";
import type { Gathering } from "./gathering.ts";
import { keepFollowing } from "./keep_following.ts";
import { LinuxSensors } from "./linux_sensors.ts";
import { parseMacmon } from "./macmon.ts";
import type { GpuSample } from "./nvidia_smi.ts";
import { repeat } from "./repeat.ts";

/** How often it is looked how busy the machine is: people see it, nothing is decided by it. */
export const SYSTEM_MS = 5_000;

/** The sample that shows whether macmon works here, and how long it may take (spec §5). */
const TRIAL = ["pipe", "--samples", "1", "--interval", "100"] as const;
const TRIAL_TIMEOUT_MS = 5_000;

type Told = (system: NodeSystem) => void;

/** Tells how busy, warm and hungry the machine is, as far as its system says. */
export async function watchSystem(gathering: Gathering, told: Told): Promise<void> {
  const { sources, signal } = gathering;
  if (sources.os === "linux") {
    const sensors = new LinuxSensors(sources);
    const work = async () => told(await sensors.read());
    return await repeat("how busy this machine is", work, { everyMs: SYSTEM_MS, sources, signal });
  }
  const macmon = new Macmon();
  await Promise.all([
    sources.os === "darwin" ? macmon.follow(gathering, told) : Promise.resolve(),
    watchCores(gathering, (system) => macmon.isLive ? undefined : told(system)),
  ]);
}

/** The sum of what processors and GPU tell. */
export function withGpu(system: NodeSystem, gpu: GpuSample | undefined): NodeSystem {
  if (!gpu) return system;
  const { powerWatts = 0 } = system;
  return {
    ...system,
    gpuUsage: gpu.usage,
    gpuTemperatureCelsius: gpu.temperatureCelsius,
    powerWatts: gpu.powerWatts === undefined
      ? system.powerWatts
      : Number((powerWatts + gpu.powerWatts).toFixed(1)),
  };
}

/** A Mac's sampler: a program of its own, which needs no rights. */
class Macmon {
  /** Its last line was read, and it goes on. */
  isLive = false;

  async follow({ sources, signal }: Gathering, told: Told): Promise<void> {
    const named = sources.env("EXO_MACMON_PATH");
    const program = named === undefined || named === "" ? "macmon" : named;
    const trial = await sources.run([program, ...TRIAL], { timeoutMs: TRIAL_TIMEOUT_MS, signal });
    if (!trial.ok || !trial.text.split("\n").some((line) => parseMacmon(line))) return;
    await keepFollowing([program, "pipe", "--interval", String(SYSTEM_MS)], {
      sources,
      signal,
      onLine: (line) => {
        const system = parseMacmon(line);
        if (!system) return false;
        this.isLive = true;
        told(system);
        return true;
      },
      onEnd: () => this.isLive = false,
    });
  }
}

/** What the system says of its cores without any program. */
function watchCores({ sources, signal }: Gathering, told: Told): Promise<void> {
  let before: readonly CoreTimes[] = [];
  const work = () => {
    const after = sources.coreTimes();
    told({ cpuUsage: usageBetween(before, after) });
    before = after;
    return Promise.resolve();
  };
  return repeat("how busy the cores are", work, { everyMs: SYSTEM_MS, sources, signal });
}
