/** The value of a line `key: value`, as Apple's tools write them. */
function valueOf(text: string, key: string): string | undefined {
  const line = text.split("\n").find((one) => one.trim().startsWith(`${key}:`));
  const value = line?.slice(line.indexOf(":") + 1).trim();
  return value === "" ? undefined : value;
}

/** Model and chip, of `system_profiler SPHardwareDataType`. */
export function hardwareOf(text: string): { machineModel?: string; chipId?: string } {
  const machineModel = valueOf(text, "Model Name");
  const chipId = valueOf(text, "Chip") ?? valueOf(text, "Processor Name");
  return {
    ...(machineModel === undefined ? {} : { machineModel }),
    ...(chipId === undefined ? {} : { chipId }),
  };
}

/** The system's version and build, of `sw_vers`. */
export function versionOf(text: string): { osVersion?: string; osBuildVersion?: string } {
  const version = valueOf(text, "ProductVersion");
  const osBuildVersion = valueOf(text, "BuildVersion");
  return {
    ...(version === undefined ? {} : { osVersion: `macOS ${version}` }),
    ...(osBuildVersion === undefined ? {} : { osBuildVersion }),
  };
}
