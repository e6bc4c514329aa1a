/** The text of a file, undefined when there is none. */
type Read = (path: string) => string | undefined;

/** Where a version of cgroups keeps its memory figures. */
interface Layout {
  readonly root: string;
  readonly limit: string;
  readonly usage: string;
  /** The line of `memory.stat` with the page cache that goes first when memory is short. */
  readonly reclaimable: string;
}

const V2: Layout = {
  root: "/sys/fs/cgroup",
  limit: "memory.max",
  usage: "memory.current",
  reclaimable: "inactive_file",
};

const V1: Layout = {
  root: "/sys/fs/cgroup/memory",
  limit: "memory.limit_in_bytes",
  usage: "memory.usage_in_bytes",
  reclaimable: "total_inactive_file",
};

/** A limit beyond this is none: version 1 says so with a number near 2⁶³. */
const LIMIT_BYTES_MAX = 2 ** 60;

/** What a control group leaves a process. */
export interface CgroupMemory {
  readonly limitBytes: number;
  readonly availableBytes: number;
}

/**
 * The tightest memory limit of this process's control groups; undefined when there is none.
 * Source: cgroup-v2 and cgroup-v1/memory of the Linux kernel's documentation (6.12).
 */
export function cgroupMemory(read: Read): CgroupMemory | undefined {
  let tightest: CgroupMemory | undefined;
  for (const line of (read("/proc/self/cgroup") ?? "").split("\n")) {
    const [number, controllers = "", ...path] = line.split(":");
    const isV1 = controllers.split(",").includes("memory");
    if (!isV1 && !(number === "0" && controllers === "")) continue;
    for (const folder of ancestors(path.join(":"))) {
      const found = groupMemory(isV1 ? V1 : V2, folder, read);
      if (found && (!tightest || found.availableBytes < tightest.availableBytes)) tightest = found;
    }
  }
  return tightest;
}

/** "/a/b" to "/a/b", "/a" and "". A path that a namespace does not show leaves the root. */
function ancestors(path: string): string[] {
  const parts = path.split("/").filter((part) => part !== "");
  if (parts.includes("..")) return [""];
  return Array.from(
    { length: parts.length + 1 },
    (_, i) => parts.slice(0, parts.length - i).map((part) => `/${part}`).join(""),
  );
}

function groupMemory(layout: Layout, folder: string, read: Read): CgroupMemory | undefined {
  const number = (name: string) => {
    const text = read(`${layout.root}${folder}/${name}`)?.trim();
    return text !== undefined && /^\d+$/.test(text) ? Number(text) : undefined;
  };
  const limitBytes = number(layout.limit);
  if (limitBytes === undefined || limitBytes > LIMIT_BYTES_MAX) return undefined;
  const usage = number(layout.usage);
  if (usage === undefined) return undefined;
  const stat = read(`${layout.root}${folder}/memory.stat`) ?? "";
  const line = new RegExp(`^${layout.reclaimable} (\\d+)$`, "m").exec(stat);
  const used = usage - Number(line?.[1] ?? 0);
  return { limitBytes, availableBytes: Math.max(0, limitBytes - used) };
}
