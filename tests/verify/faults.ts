/** What befalls a runner. */
export const FAULTS = ["exits", "killed", "stopped", "hangs", "garbage", "exhausts"] as const;

/** What the runner is doing when it happens. */
export const STAGES = ["idle", "load", "warmup", "prefill", "decode"] as const;

/** What the runner runs: the engine without weights, or the one that computes. */
export const ENGINES = ["fake", "real"] as const;

export type Fault = typeof FAULTS[number];
export type Stage = typeof STAGES[number];

/** One cell of the matrix. */
export interface Cell {
  readonly fault: Fault;
  readonly stage: Stage;
  readonly engine: typeof ENGINES[number];
  /** Requests that the runner has when it happens, of a stage that has any. */
  readonly inFlight: number;
}

/** Stages in which a runner has requests. */
const BUSY_STAGES: readonly Stage[] = ["prefill", "decode"];

/** Requests of a runner that is struck with many at once. */
export const IN_FLIGHT_MANY = 8;

/** Faults that the real engine is struck by: the others are of the fake one's own making. */
const REAL_FAULTS: readonly Fault[] = ["exits", "killed", "stopped"];

/** An idle runner does nothing that could fail by itself: it can only be hit from outside. */
const ALONE: readonly Cell[] = ENGINES.flatMap((engine) =>
  FAULTS.filter((fault) => engine === "fake" || REAL_FAULTS.includes(fault)).flatMap((fault) =>
    STAGES.filter((stage) => stage !== "idle" || fault === "killed" || fault === "stopped")
      .map((stage) => ({ fault, stage, engine, inFlight: 1 }))
  )
);

/** Every fault in every stage with one request; then those stages that have requests, with many. */
export const CELLS: readonly Cell[] = [
  ...ALONE,
  ...ALONE.filter(({ stage }) => BUSY_STAGES.includes(stage))
    .map((cell) => ({ ...cell, inFlight: IN_FLIGHT_MANY })),
];

/** What a node held before and after a cell. */
export interface CellReport {
  readonly descriptors: readonly [began: number, ended: number];
  readonly liveBytes: readonly [began: number, ended: number];
}

const MAIN = new URL("./fault_cell_main.ts", import.meta.url).pathname;

/** How long a cell may take; most take a few seconds. */
const CELL_MS_MAX = 180_000;

/**
 * Lets a fault happen to a runner of a node that has a process of its own, so that what the node
 * holds can be told from what a test does.
 * @throws what does not hold; see `fault_cell.ts`. A cell that hangs is killed, and told of too.
 */
export async function runCell(cell: Cell): Promise<CellReport> {
  const flags = ["--no-check", "--v8-flags=--expose-gc"];
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", ...flags, MAIN, JSON.stringify(cell)],
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  let isLate = false;
  const deadline = setTimeout(() => {
    isLate = true;
    child.kill("SIGKILL");
  }, CELL_MS_MAX);
  const { success, stdout, stderr } = await child.output().finally(() => clearTimeout(deadline));
  const [said, complaint] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
  if (isLate) throw new Error(`Waited ${CELL_MS_MAX} ms in vain for the cell's end: ${complaint}`);
  if (!success) throw new Error(complaint);
  return JSON.parse(said ?? "");
}
