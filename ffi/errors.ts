/**
 * The kinds of failure this room knows: a native call that failed, a group of ranks that is broken,
 * a setup that cannot go on.
 */

/** A failed call of the shim; the message is MLX's own, after the name of the C function. */
export class NativeError extends Error {
  /** As JavaScript shows it. */
  override readonly name = "NativeError";

  /** Puts both into one message. */
  constructor(
    /** The C function that failed. */
    readonly functionName: string,
    /** What MLX or the shim said. */
    readonly reason: string,
  ) {
    super(`Cannot run ${functionName}: ${reason}`);
  }
}

/** A group of ranks is broken, or did not come about; the message names the rank that is gone. */
export class GroupError extends Error {
  /** As JavaScript shows it. */
  override readonly name = "GroupError";
}

/** A missing prerequisite, or a step of the setup that failed. */
export class SetupError extends Error {
  /** As JavaScript shows it. */
  override readonly name = "SetupError";

  /** Says what was attempted, found and needed. */
  constructor(
    message: string,
    /** What to do next, with the exact command where there is one. */
    readonly hint: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}
