import { AppError } from "../core/errors.ts";
import type { InstanceId } from "../core/ids.ts";
import type { Output } from "../core/member.ts";
import type { GatherPiece, GatherRound } from "../core/pending_gathers.ts";

interface Asked {
  readonly round: GatherRound;
  readonly resolve: (pieces: readonly string[]) => void;
  readonly reject: (cause: AppError) => void;
}

/** The ranks of this node that wait for the pieces of the others: one for each instance. */
export class Gathers {
  readonly #take: (piece: GatherPiece) => void;
  readonly #asked = new Map<InstanceId, Asked>();

  /** `take` gives a piece to the member, which ends each round within `GATHER_TIMEOUT_MS`. */
  constructor(take: (piece: GatherPiece) => void) {
    this.#take = take;
  }

  /**
   * Resolves to the pieces of all ranks, by rank.
   * @throws {AppError} `group_broken` with the reason why there are none.
   */
  async ask(piece: GatherPiece): Promise<readonly string[]> {
    this.#fail(piece, "a later process of its rank began");
    return await new Promise((resolve, reject) => {
      this.#asked.set(piece.instanceId, { round: piece, resolve, reject });
      this.#take(piece);
    });
  }

  /** A round has ended. */
  ended({ round, result }: Extract<Output, { type: "GatherEnded" }>): void {
    const asked = this.#asked.get(round.instanceId);
    const isAsked = asked?.round.generation === round.generation &&
      asked.round.sequence === round.sequence;
    if (!isAsked) return;
    if ("refused" in result) return this.#fail(round, result.refused);
    this.#asked.delete(round.instanceId);
    asked.resolve(result.pieces);
  }

  /** The node stops: nobody waits any more. */
  stop(): void {
    for (const { round } of this.#asked.values()) this.#fail(round, "the node is stopping");
  }

  #fail({ instanceId }: GatherRound, why: string): void {
    const asked = this.#asked.get(instanceId);
    this.#asked.delete(instanceId);
    const what = `Cannot gather what the ranks of instance ${instanceId} tell each other`;
    asked?.reject(
      new AppError("group_broken", `${what}: ${why}`, {
        hint: "the instance is tried again by itself",
      }),
    );
  }
}
