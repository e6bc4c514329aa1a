/** The bit of SIGHUP in a mask of signals. */
const SIGHUP_BIT = 1;

/**
 * Whether whoever started this process wants it to outlive its terminal, as `nohup` does. Only Linux
 * tells; elsewhere it is false. Source: proc_pid_status(5), SigIgn.
 */
export function ignoresHangup(): boolean {
  try {
    const status = Deno.readTextFileSync("/proc/self/status");
    const lowest = /^SigIgn:\s*[0-9a-f]*([0-9a-f])$/m.exec(status)?.[1] ?? "0";
    return (parseInt(lowest, 16) & SIGHUP_BIT) !== 0;
  } catch {
    return false;
  }
}
