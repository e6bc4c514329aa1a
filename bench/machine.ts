/** The machine that measures: what absolute figures hold for. */
export interface Machine {
  readonly os: string;
  readonly arch: string;
  readonly cpu: string;
  readonly cores: number;
  readonly memoryBytes: number;
  readonly deno: string;
}

/** This machine. */
export async function thisMachine(): Promise<Machine> {
  const release = await textOf("/etc/os-release");
  return {
    os: /^PRETTY_NAME="(.*)"$/m.exec(release)?.[1] ?? `${Deno.build.os} ${Deno.osRelease()}`,
    arch: Deno.build.arch,
    cpu: await cpuName(),
    cores: navigator.hardwareConcurrency,
    memoryBytes: Deno.systemMemoryInfo().total,
    deno: Deno.version.deno,
  };
}

async function cpuName(): Promise<string> {
  const info = await textOf("/proc/cpuinfo");
  const name = /^model name\s*:\s*(.+)$/m.exec(info)?.[1] ?? "unknown";
  const flags = /^flags\s*:\s*(.+)$/m.exec(info)?.[1]?.split(" ") ?? [];
  const shown = ["avx2", "avx512f", "amx_int8"].filter((flag) => flags.includes(flag));
  return [name, ...shown].join(", ");
}

async function textOf(path: string): Promise<string> {
  try {
    return await Deno.readTextFile(path);
  } catch {
    return "";
  }
}
