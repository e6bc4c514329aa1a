/** What a test tells a runner of a node: files in the node's folder, one for each order. */
import { join } from "node:path";
import type { Stage } from "../../engines/fake.ts";
import { eventually } from "./eventually.ts";

/** Where a runner can be held: an engine's stages, and where its ranks meet. */
export type HeldStage = Stage | "connect";

/**
 * Orders that a runner obeys at any time: take all memory, do a command out of order, or report more
 * than a pipe holds.
 */
export type Order = "exhaust" | "illegal" | "flood";

/** More than a pipe or a pair of sockets holds. Source: Linux, pipe(7) and net.core.wmem_default. */
export const FLOOD_BYTES = 1_048_576;

/** How often it is looked whether there is an order, and whether a held stage may go on. */
const LOOK_MS = 10;

/** How long a stage is held at most: a test that has failed holds nobody for ever. */
const HELD_MS_MAX = 30_000;

/** The orders of the node whose folder this is. */
export class Orders {
  readonly #folder: string;

  constructor(folder: string) {
    this.#folder = folder;
  }

  /** The next runner that reaches a stage stays there, once. */
  async hold(stage: HeldStage): Promise<void> {
    await Deno.remove(this.#file("held")).catch(() => {});
    await Deno.writeTextFile(this.#file("hold"), stage);
  }

  async isHeld(): Promise<boolean> {
    return await Deno.stat(this.#file("held")).then(() => true, () => false);
  }

  /** The runner of the first rank takes no step until so many requests are inside, once. */
  async gather(requests: number): Promise<void> {
    await Deno.writeTextFile(this.#file("gather"), `${requests}`);
  }

  /** Whoever is held, or waits for requests, goes on. */
  async release(): Promise<void> {
    for (const order of ["hold", "gather"]) await Deno.remove(this.#file(order)).catch(() => {});
  }

  /** Resolves once a runner has taken it. */
  async give(order: Order): Promise<void> {
    await Deno.remove(this.#file("refused")).catch(() => {});
    await Deno.writeTextFile(this.#file(order), "");
    await eventually(`the order to ${order} is taken`, async () => !(await this.has(order)));
  }

  /** Whether an order was given that nobody has taken yet. */
  async has(order: Order): Promise<boolean> {
    return await Deno.stat(this.#file(order)).then(() => true, () => false);
  }

  /** The command that was refused since the last order, by its type. */
  async refused(): Promise<string | undefined> {
    return await Deno.readTextFile(this.#file("refused")).catch(() => undefined);
  }

  /** Of the runner: it has refused this command. */
  tellRefused(command: string): void {
    Deno.writeTextFileSync(this.#file("refused"), command);
  }

  /** Of the runner: holds this thread, as native code would, where it was told to. */
  stayIn(stage: HeldStage, obey: () => void): void {
    if (this.#read("hold") !== stage) return;
    Deno.writeTextFileSync(this.#file("held"), stage);
    const until = performance.now() + HELD_MS_MAX;
    while (this.#read("hold") === stage && performance.now() < until) {
      obey();
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, LOOK_MS);
    }
  }

  /** Of the runner: whether it waits for more requests than are inside; those need not stay. */
  gathers(inside: number): boolean {
    if (inside < Number(this.#read("gather"))) return true;
    this.take("gather");
    return false;
  }

  /** Of the runner: whether there is this order; it is obeyed once, by one runner. */
  take(order: Order | "gather"): boolean {
    try {
      Deno.removeSync(this.#file(order));
      return true;
    } catch {
      return false;
    }
  }

  /** Of the runner: obeys orders from now on, between two steps. */
  watch(obey: () => void): void {
    Deno.unrefTimer(setInterval(obey, LOOK_MS));
  }

  #read(order: "hold" | "gather"): string {
    try {
      return Deno.readTextFileSync(this.#file(order));
    } catch {
      return "";
    }
  }

  #file(name: string): string {
    return join(this.#folder, name);
  }
}
