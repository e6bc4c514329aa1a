/** Time of one core since the machine has started, in any unit. */
export interface CoreTimes {
  readonly busy: number;
  readonly total: number;
}

/** The cores of each kind, by their numbers; none of them: all are of one kind. */
export interface CoreKinds {
  readonly performance: ReadonlySet<number>;
  readonly efficiency: ReadonlySet<number>;
}

/** A machine whose cores are all alike. */
export const ONE_KIND: CoreKinds = { performance: new Set(), efficiency: new Set() };

/** The cores of `/proc/stat`, by their numbers; one that is switched off has no times. */
export function parseProcStat(text: string): CoreTimes[] {
  const cores: CoreTimes[] = [];
  for (const [, number, fields = ""] of text.matchAll(/^cpu(\d+) (.*)$/gm)) {
    // user, nice, system, idle, iowait, irq, softirq, steal; a guest's time is the user's.
    const times = fields.trim().split(/\s+/).slice(0, 8).map(Number);
    const total = times.reduce((sum, one) => sum + one, 0);
    cores[Number(number)] = { total, busy: total - (times[3] ?? 0) - (times[4] ?? 0) };
  }
  return Array.from(cores, (core) => core ?? { busy: 0, total: 0 });
}

/** The busy share, 0 to 1, of the cores that `isCounted`; undefined when no time has passed. */
export function usageBetween(
  before: readonly CoreTimes[],
  after: readonly CoreTimes[],
  isCounted: (core: number) => boolean = () => true,
): number | undefined {
  let busy = 0;
  let total = 0;
  for (const [core, now] of after.entries()) {
    const then = before[core];
    // A core that was switched off meanwhile counts from nothing.
    if (!then || !isCounted(core) || now.total < then.total) continue;
    busy += now.busy - then.busy;
    total += now.total - then.total;
  }
  if (total <= 0) return undefined;
  return Number(Math.min(1, Math.max(0, busy / total)).toFixed(3));
}

/** The numbers of a list of the kernel's, such as `0-3,8`. */
export function parseCpuList(text: string): Set<number> {
  const cores = new Set<number>();
  for (const [, first = "", last = first] of text.matchAll(/(\d+)(?:-(\d+))?/g)) {
    for (let core = Number(first); core <= Number(last); core++) cores.add(core);
  }
  return cores;
}

/** Kinds by what the kernel says each core can do: those that can do most are the fast ones. */
export function kindsByCapacity(capacities: readonly (number | undefined)[]): CoreKinds {
  const most = Math.max(...capacities.map((one) => one ?? 0));
  const numbersOf = (isWanted: (capacity: number) => boolean) =>
    new Set(capacities.flatMap((one, core) => one !== undefined && isWanted(one) ? [core] : []));
  const efficiency = numbersOf((one) => one < most);
  if (efficiency.size === 0) return ONE_KIND;
  return { performance: numbersOf((one) => one === most), efficiency };
}
