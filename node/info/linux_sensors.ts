import type { NodeSystem } from "../../core/telemetry.ts";
import type { Millis } from "../../core/units.ts";
import {
  type CoreKinds,
  type CoreTimes,
  kindsByCapacity,
  ONE_KIND,
  parseCpuList,
  parseProcStat,
  usageBetween,
} from "./cpu_usage.ts";
import { type EnergyZone, wattsBetween, zonesThatCount } from "./rapl.ts";
import type { InfoSources } from "./sources.ts";

type Files = Pick<InfoSources, "readText" | "list" | "uptime">;

/** Sensors of processors, by the names that their drivers give them. */
const CPU_ZONE = /^(x86_pkg_temp|TCPU|cpu.*|soc.*)$/i;
const CPU_HWMON = /^(coretemp|k10temp|zenpower|cpu_thermal)$/;

/** Beyond these a sensor is broken. */
const CELSIUS_MIN = -40;
const CELSIUS_MAX = 150;

/** What of a Linux machine is looked at; it stays the same while the node runs. */
interface Sensors {
  readonly kinds: CoreKinds;
  readonly temperatureFiles: readonly string[];
  readonly zones: readonly EnergyZone[];
}

interface Reading {
  readonly at: Millis;
  readonly cores: readonly CoreTimes[];
  readonly energies: readonly number[];
}

/** How busy, warm and hungry a Linux machine is, by files alone. */
export class LinuxSensors {
  readonly #files: Files;
  #sensors: Sensors | undefined;
  #last: Reading | undefined;

  constructor(files: Files) {
    this.#files = files;
  }

  /** Since the last call; the first one has only the temperature. */
  async read(): Promise<NodeSystem> {
    const sensors = this.#sensors ??= await findSensors(this.#files);
    const reading = await readCounters(this.#files, sensors);
    const before = this.#last;
    this.#last = reading;
    const cpuTemperatureCelsius = await hottest(this.#files, sensors.temperatureFiles);
    if (!before) return { cpuTemperatureCelsius };
    const { kinds, zones } = sensors;
    const usage = (kind?: ReadonlySet<number>) =>
      usageBetween(before.cores, reading.cores, (core) => kind?.has(core) ?? true);
    return {
      cpuUsage: usage(),
      performanceCoreUsage: kinds.performance.size > 0 ? usage(kinds.performance) : undefined,
      efficiencyCoreUsage: kinds.efficiency.size > 0 ? usage(kinds.efficiency) : undefined,
      cpuTemperatureCelsius,
      powerWatts: wattsBetween(zones, {
        before: before.energies,
        after: reading.energies,
        elapsedMs: reading.at - before.at,
      }),
    };
  }
}

async function readCounters(files: Files, { zones }: Sensors): Promise<Reading> {
  const energies: number[] = [];
  for (const { energyFile } of zones) {
    const energy = Number(await files.readText(energyFile));
    if (Number.isFinite(energy)) energies.push(energy);
  }
  const cores = parseProcStat(await files.readText("/proc/stat") ?? "");
  return { at: files.uptime(), cores, energies };
}

async function findSensors(files: Files): Promise<Sensors> {
  const [kinds, temperatureFiles, zones] = await Promise.all([
    findKinds(files),
    findTemperatures(files),
    findZones(files),
  ]);
  return { kinds, temperatureFiles, zones };
}

/** Intel's hybrid processors have a list for each kind, others say what each core can do. */
async function findKinds(files: Files): Promise<CoreKinds> {
  const fast = await files.readText("/sys/devices/cpu_core/cpus");
  const small = await files.readText("/sys/devices/cpu_atom/cpus");
  if (fast !== undefined && small !== undefined) {
    return { performance: parseCpuList(fast), efficiency: parseCpuList(small) };
  }
  const root = "/sys/devices/system/cpu";
  const cores = (await files.list(root)).filter((name) => /^cpu\d+$/.test(name));
  const capacities: (number | undefined)[] = [];
  for (const name of cores) {
    const text = await files.readText(`${root}/${name}/cpu_capacity`);
    // All of them say it, or none does.
    if (text === undefined) return ONE_KIND;
    capacities[Number(name.slice("cpu".length))] = Number(text);
  }
  return kindsByCapacity(capacities);
}

async function findTemperatures(files: Files): Promise<string[]> {
  const found: string[] = [];
  const folders = [
    { root: "/sys/class/thermal", label: "type", value: "temp", isOfCpu: CPU_ZONE },
    { root: "/sys/class/hwmon", label: "name", value: "temp1_input", isOfCpu: CPU_HWMON },
  ];
  for (const { root, label, value, isOfCpu } of folders) {
    for (const name of await files.list(root)) {
      const kind = (await files.readText(`${root}/${name}/${label}`))?.trim() ?? "";
      if (isOfCpu.test(kind)) found.push(`${root}/${name}/${value}`);
    }
  }
  return found;
}

/** The counters that may be read: most systems let root alone read them. */
async function findZones(files: Files): Promise<EnergyZone[]> {
  const root = "/sys/class/powercap";
  const zones: EnergyZone[] = [];
  for (const folder of await files.list(root)) {
    if (!/^intel-rapl:\d+$/.test(folder)) continue;
    const at = (name: string) => `${root}/${folder}/${name}`;
    const range = Number(await files.readText(at("max_energy_range_uj")) ?? NaN);
    const isReadable = await files.readText(at("energy_uj")) !== undefined;
    if (!isReadable || !Number.isFinite(range)) continue;
    const name = (await files.readText(at("name")))?.trim() ?? "";
    zones.push({ name, energyFile: at("energy_uj"), rangeMicrojoules: range });
  }
  return zonesThatCount(zones);
}

async function hottest(files: Files, paths: readonly string[]): Promise<number | undefined> {
  let most: number | undefined;
  for (const path of paths) {
    const text = await files.readText(path);
    const celsius = text === undefined || text.trim() === "" ? NaN : Number(text) / 1_000;
    if (!(celsius >= CELSIUS_MIN && celsius <= CELSIUS_MAX)) continue;
    most = Math.max(most ?? celsius, celsius);
  }
  return most === undefined ? undefined : Number(most.toFixed(1));
}
