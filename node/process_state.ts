/** What the system says of a process at one moment. */
export interface ProcessState {
  /** Held by SIGSTOP or a debugger. */
  readonly isStopped: boolean;
  /** All threads wait for what a signal can interrupt: none computes, none reads a disk. */
  readonly isAsleep: boolean;
  /** Processor time so far, over all threads, in clock ticks. */
  readonly cpuTicks: number;
  /**
   * How often its main thread, and those that wait for other ranks, have gone to sleep of their own
   * accord. One that waits wakes for each of the others' signs of life; one that hangs never does.
   */
  readonly sleeps: number;
}

/** Looks at a process; undefined where the system does not tell. */
export type ReadProcess = (pid: number) => ProcessState | undefined;

/** The state of a process, as Linux tells it in /proc. Source: proc(5). */
export function processState(pid: number): ProcessState | undefined {
  try {
    const [state = "", ...rest] = fieldsOf(`/proc/${pid}/stat`);
    const [userTicks, systemTicks] = [Number(rest[10]), Number(rest[11])];
    return {
      isStopped: state === "T" || state === "t",
      isAsleep: state === "S" && threadStates(pid).every((thread) => thread === "S"),
      cpuTicks: userTicks + systemTicks,
      sleeps: sleepsOf(pid),
    };
  } catch {
    return undefined;
  }
}

/** What threads beside the main one are called that wait for other ranks. Source: group.cpp. */
const WAITS_NAME = "exo-waits";

function sleepsOf(pid: number): number {
  const folder = `/proc/${pid}/task`;
  let sleeps = 0;
  for (const { name } of Deno.readDirSync(folder)) {
    try {
      const status = Deno.readTextFileSync(`${folder}/${name}/status`);
      const isCounted = name === `${pid}` || status.startsWith(`Name:\t${WAITS_NAME}\n`);
      if (isCounted) sleeps += Number(/^voluntary_ctxt_switches:\s*(\d+)/m.exec(status)?.[1] ?? 0);
    } catch {
      // It has ended since.
    }
  }
  return sleeps;
}

/** The name stands in parentheses and may hold anything; the fields after it are plain. */
function fieldsOf(path: string): string[] {
  const stat = Deno.readTextFileSync(path);
  return stat.slice(stat.lastIndexOf(")") + 2).split(" ");
}

function threadStates(pid: number): string[] {
  const folder = `/proc/${pid}/task`;
  return [...Deno.readDirSync(folder)].map(({ name }) => {
    try {
      return fieldsOf(`${folder}/${name}/stat`)[0] ?? "";
    } catch {
      return "S"; // It has ended since.
    }
  });
}
