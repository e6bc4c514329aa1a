import { isAlive } from "./eventually.ts";

/** Tells the processes of one test apart from all others: children inherit what marks them. */
export class Mark {
  readonly #name = `EXO_TEST_MARK`;
  readonly #value = crypto.randomUUID();

  /** What the first process is started with. */
  get env(): Readonly<Record<string, string>> {
    return { [this.#name]: this.#value };
  }

  /** The processes that live with this mark, whoever is their parent by now. */
  async pids(): Promise<number[]> {
    const found: number[] = [];
    for await (const { name } of Deno.readDir("/proc")) {
      if (!/^\d+$/.test(name)) continue;
      // A process may end while it is looked at.
      const environment = await Deno.readTextFile(`/proc/${name}/environ`).catch(() => "");
      const isOurs = environment.includes(this.#value) && await isAlive(Number(name));
      if (isOurs) found.push(Number(name));
    }
    return found;
  }
}
