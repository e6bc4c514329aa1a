/** A counter of energy that the kernel reads from the processor (power capping framework). */
export interface EnergyZone {
  /** Such as `package-0`, or `psys` for the whole machine. */
  readonly name: string;
  readonly energyFile: string;
  /** Where the counter begins anew. */
  readonly rangeMicrojoules: number;
}

/** The zones that count each joule once: the machine, or all of its processors. */
export function zonesThatCount(zones: readonly EnergyZone[]): EnergyZone[] {
  const machine = zones.filter(({ name }) => name === "psys");
  return machine.length > 0 ? machine : zones.filter(({ name }) => name.startsWith("package"));
}

/** What was drawn on the average between two readings of zones, in watts. */
export function wattsBetween(
  zones: readonly Pick<EnergyZone, "rangeMicrojoules">[],
  { before, after, elapsedMs }: {
    readonly before: readonly number[];
    readonly after: readonly number[];
    readonly elapsedMs: number;
  },
): number | undefined {
  if (elapsedMs <= 0 || zones.length === 0) return undefined;
  let microjoules = 0;
  for (const [at, { rangeMicrojoules }] of zones.entries()) {
    const [then, now] = [before[at], after[at]];
    if (then === undefined || now === undefined) return undefined;
    microjoules += now >= then ? now - then : now + rangeMicrojoules - then;
  }
  return Number((microjoules / 1_000 / elapsedMs).toFixed(1));
}
