/** A runner whose engine, when it joins its group, exchanges its rank over the side channel. */
import { AppError } from "../../core/errors.ts";
import type { GroupSpec } from "../../core/group.ts";
import { FakeBuilder } from "../../engines/fake.ts";
import { runRunnerProcess } from "../../engines/process.ts";
import { gatherOverPipes } from "../../ffi/mod.ts";

class GatheringBuilder extends FakeBuilder {
  override async connect({ rank, size, link }: GroupSpec): Promise<void> {
    const pipes = link.type === "jaccl" ? link.sideChannel : undefined;
    if (!pipes) throw new AppError("group_broken", "it was given no side channel");
    const found = await gatherOverPipes(pipes, { data: new Uint8Array([rank]), ranks: size });
    if (found.join() !== "0,1") throw new AppError("group_broken", `it was given ${found.join()}`);
  }
}

const incarnation = Number(Deno.args[Deno.args.indexOf("--incarnation") + 1]);
Deno.exit(
  await runRunnerProcess(incarnation, (write) => Promise.resolve(new GatheringBuilder({}, write))),
);
