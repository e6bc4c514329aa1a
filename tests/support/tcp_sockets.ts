/** What the system tells of TCP sockets. Source: Linux, proc(5), /proc/net/tcp. */

/** States of sockets. Source: Linux, include/net/tcp_states.h. */
const LISTEN = "0A";
const ESTABLISHED = "01";

/** One end of a TCP connection, or one that listens. */
export interface TcpSocket {
  readonly port: number;
  readonly remotePort: number;
  readonly state: string;
  /** What the other end has not acknowledged, whether it was sent or not. */
  readonly unsentBytes: number;
  /** What has come and the process has not read. */
  readonly unreadBytes: number;
  readonly inode: string;
}

/** All TCP sockets on the machine (network namespace) of a process. */
export async function tcpSockets(pid: number): Promise<TcpSocket[]> {
  const tables = await Promise.all(
    ["tcp", "tcp6"].map((table) => Deno.readTextFile(`/proc/${pid}/net/${table}`).catch(() => "")),
  );
  return tables.flatMap((text) => text.trim().split("\n").slice(1)).map((line) => {
    const fields = line.trim().split(/\s+/);
    const [, local = "", remote = "", state = "", queues = "", , , , , inode = ""] = fields;
    const [port, remotePort] = [secondOf(local), secondOf(remote)];
    const [unsentBytes, unreadBytes] = [parseInt(queues, 16), secondOf(queues)];
    return { port, remotePort, state, unsentBytes, unreadBytes, inode };
  });
}

/**
 * The ports at which anybody on the machine of a process listens or is connected; not those of
 * connections that are over, which the system remembers for a while.
 */
export async function portsOfMachine(pid: number): Promise<number[]> {
  const open = (await tcpSockets(pid)).filter(({ state }) => [LISTEN, ESTABLISHED].includes(state));
  return open.map(({ port }) => port);
}

/** The own ports of the sockets of processes, whether they listen or are connected. */
export async function localPorts(pids: readonly number[]): Promise<number[]> {
  return (await Promise.all(pids.map(portsOf))).flat();
}

async function portsOf(pid: number): Promise<number[]> {
  const inodes = new Set<string>();
  for (const name of await namesIn(`/proc/${pid}/fd`)) {
    const target = await Deno.readLink(`/proc/${pid}/fd/${name}`).catch(() => "");
    const inode = /^socket:\[(\d+)\]$/.exec(target)?.[1];
    if (inode !== undefined) inodes.add(inode);
  }
  const own = (await tcpSockets(pid)).filter(({ inode }) => inodes.has(inode));
  return own.map(({ port }) => port);
}

/** None where the process is gone. */
async function namesIn(folder: string): Promise<string[]> {
  try {
    return (await Array.fromAsync(Deno.readDir(folder))).map(({ name }) => name);
  } catch {
    return [];
  }
}

/** The hexadecimal number behind the colon. */
function secondOf(pair: string): number {
  return parseInt(pair.split(":")[1] ?? "", 16);
}
