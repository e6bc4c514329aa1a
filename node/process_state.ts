/** What the system says of a process at one moment. */
export interface ProcessState {
  /** Held by SIGSTOP or a debugger. */
  readonly isStopped: boolean;
  /** All threads wait for what a signal can interrupt: none computes, none reads a disk. */
  readonly isAsleep: boolean;
  /** Processor time so far, over all threads, in clock ticks. */
  readonly cpuTicks: number;
}

/** The state of a process; undefined where the system does not tell. Source: Linux, proc(5). */
export function processState(pid: number): ProcessState | undefined {
  try {
    const [state = "", ...rest] = fieldsOf(`/proc/${pid}/stat`);
    const [userTicks, systemTicks] = [Number(rest[10]), Number(rest[11])];
    return {
      isStopped: state === "T" || state === "t",
      isAsleep: state === "S" && threadStates(pid).every((thread) => thread === "S"),
      cpuTicks: userTicks + systemTicks,
    };
  } catch {
    return undefined;
  }
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
