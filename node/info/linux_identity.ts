/** What makers of machines write where they know no name. */
const NO_NAME =
  /^(none|unknown|default string|system product name|to be filled by o\.?e\.?m\.?|not specified)?$/i;

/** A name that firmware tells; undefined where its maker has left a blank. */
export function firmwareName(text: string | undefined): string | undefined {
  // A device tree ends its texts with a zero byte.
  const name = text?.replaceAll("\0", "").trim() ?? "";
  return NO_NAME.test(name) ? undefined : name;
}

/** The processor of `/proc/cpuinfo`; undefined where the architecture has no names. */
export function processorOf(cpuinfo: string | undefined): string | undefined {
  return /^(?:model name|Model Name|cpu model)\s*:\s*(.*\S)/m.exec(cpuinfo ?? "")?.[1]
    ?.replace(/\s+/g, " ");
}

/** The model of a GPU of `/proc/driver/nvidia/gpus/<address>/information`. */
export function nvidiaModelOf(information: string | undefined): string | undefined {
  return /^Model:\s*(.*\S)/m.exec(information ?? "")?.[1];
}

/** The system's name with its version, of `/etc/os-release`. */
export function systemNameOf(osRelease: string | undefined): string | undefined {
  const said = /^PRETTY_NAME=(.*)$/m.exec(osRelease ?? "")?.[1]?.trim() ?? "";
  const name = said.replace(/^(["'])(.*)\1$/, "$2").replace(/\\(["'$`\\])/g, "$1");
  return name === "" ? undefined : name;
}

/** Processor and GPUs as one name, equal ones counted: `AMD EPYC 9654 + 2 × NVIDIA H200`. */
export function chipOf(processor: string, gpus: readonly string[]): string {
  const counts = new Map<string, number>();
  for (const gpu of gpus) counts.set(gpu, (counts.get(gpu) ?? 0) + 1);
  const names = [...counts].map(([gpu, count]) => count === 1 ? gpu : `${count} × ${gpu}`);
  return [processor, ...names].join(" + ");
}
