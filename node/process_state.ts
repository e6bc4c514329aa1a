/** What the system says of a process at one moment. */
export interface ProcessState {
  /** Held by SIGSTOP or a debugger. */
  readonly isStopped: boolean;
  /** Waits for something that a signal can interrupt: neither computing nor reading a disk. */
  readonly isAsleep: boolean;
  /** Processor time so far, over all threads, in clock ticks. */
  readonly cpuTicks: number;
}

/** The state of a process; undefined where the system does not tell. Source: Linux, proc(5). */
export function processState(pid: number): ProcessState | undefined {
  try {
    const stat = Deno.readTextFileSync(`/proc/${pid}/stat`);
    // The name stands in parentheses and may hold anything; the fields after it are plain.
    const [state = "", ...rest] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    const [userTicks, systemTicks] = [Number(rest[10]), Number(rest[11])];
    return {
      isStopped: state === "T" || state === "t",
      isAsleep: state === "S",
      cpuTicks: userTicks + systemTicks,
    };
  } catch {
    return undefined;
  }
}
