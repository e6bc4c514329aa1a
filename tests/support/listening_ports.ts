/** States of /proc/net/tcp. Source: Linux, include/net/tcp_states.h. */
const LISTEN = "0A";

/** The TCP ports at which processes listen, sorted. Source: Linux, proc(5). */
export function listeningPorts(pids: readonly number[]): Promise<number[]> {
  return localPorts(pids, (state) => state === LISTEN);
}

/** Their own ports of all TCP sockets of processes, whether they listen or are connected, sorted. */
export async function localPorts(
  pids: readonly number[],
  isWanted: (state: string) => boolean = () => true,
): Promise<number[]> {
  const found = await Promise.all(pids.map((pid) => portsOf(pid, isWanted)));
  return [...new Set(found.flat())].sort((a, b) => a - b);
}

async function portsOf(pid: number, isWanted: (state: string) => boolean): Promise<number[]> {
  const sockets = new Set<string>();
  for (const name of await namesIn(`/proc/${pid}/fd`)) {
    const target = await Deno.readLink(`/proc/${pid}/fd/${name}`).catch(() => "");
    const inode = /^socket:\[(\d+)\]$/.exec(target)?.[1];
    if (inode !== undefined) sockets.add(inode);
  }
  const tables = await Promise.all(
    ["tcp", "tcp6"].map((table) => Deno.readTextFile(`/proc/${pid}/net/${table}`).catch(() => "")),
  );
  return tables.flatMap((text) => text.trim().split("\n").slice(1)).flatMap((line) => {
    const fields = line.trim().split(/\s+/);
    const [, local = "", , state = "", , , , , , inode = ""] = fields;
    if (!isWanted(state) || !sockets.has(inode)) return [];
    return [parseInt(local.split(":")[1] ?? "", 16)];
  });
}

/** None where the process is gone. */
async function namesIn(folder: string): Promise<string[]> {
  try {
    return (await Array.fromAsync(Deno.readDir(folder))).map(({ name }) => name);
  } catch {
    return [];
  }
}
