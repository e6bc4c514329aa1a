/** The fault matrix of an instance over two nodes: what befalls one of its ranks, and when. */

/** What happens, at one rank or to the node that has it. */
export const GROUP_FAULTS = [
  "runner killed",
  "runner stopped",
  "node killed",
  "partition",
  "full pipe",
  "slow client",
  "out of memory",
  "corrupt weights",
  "illegal order",
] as const;

/** What the instance is doing when it happens. */
export const GROUP_STAGES = ["idle", "connect", "load", "warmup", "prefill", "decode"] as const;

/** To which rank: the first leads, the last answers it. */
export const STRUCK_RANKS = ["first", "last"] as const;

/** What the ranks run: engines without weights, or those that compute. */
const ENGINES = ["fake", "real"] as const;

export type GroupFault = typeof GROUP_FAULTS[number];
export type GroupStage = typeof GROUP_STAGES[number];

/** One cell of the matrix. */
export interface GroupCell {
  readonly fault: GroupFault;
  readonly stage: GroupStage;
  readonly rank: typeof STRUCK_RANKS[number];
  readonly engine: typeof ENGINES[number];
}

/** Whether a fault can happen so: what the others would say is said by a cell that is here. */
function canBe({ fault, stage, rank, engine }: GroupCell): boolean {
  // Before any rank is ready, clients are told so, by whichever node they ask.
  if (fault === "slow client" && isHeldStage(stage)) return rank === "first";
  // Fake engines read no weights; those that compute read them when they load.
  if (fault === "corrupt weights") return engine === "real" && stage !== "connect";
  return true;
}

/** Whether a rank stays in the stage on its way to be ready; idle ranks are where they stay. */
export function isHeldStage(stage: GroupStage): stage is "connect" | "load" | "warmup" {
  return stage === "connect" || stage === "load" || stage === "warmup";
}

/** All cells, in the order in which they are numbered. */
export const GROUP_CELLS: readonly GroupCell[] = ENGINES.flatMap((engine) =>
  GROUP_FAULTS.flatMap((fault) =>
    GROUP_STAGES.flatMap((stage) =>
      STRUCK_RANKS.map((rank) => ({ fault, stage, rank, engine })).filter(canBe)
    )
  )
);

/** A cell in words. */
export function groupCellName({ fault, stage, rank, engine }: GroupCell): string {
  return `${engine}: ${fault} at the ${rank} rank in ${stage}`;
}
