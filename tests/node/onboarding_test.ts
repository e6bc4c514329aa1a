import { equal, rejects } from "node:assert/strict";
import { join } from "node:path";
import { Onboarding } from "../../node/onboarding.ts";
import { TempDir } from "../support/temp_dir.ts";

Deno.test("onboarding is completed once, for all later starts on the data directory", async () => {
  await using dir = await TempDir.make();
  const first = new Onboarding(dir.path);
  equal(await first.isCompleted(), false);
  await first.complete();
  await first.complete();
  equal(await first.isCompleted(), true);
  equal(await new Onboarding(dir.path).isCompleted(), true);
});

Deno.test("onboarding that cannot be noted is an error", async () => {
  await using dir = await TempDir.make();
  const gone = new Onboarding(join(dir.path, "gone"));
  await rejects(gone.complete(), {
    code: "storage_failed",
    message: "Cannot note that the first steps are done: no such file or directory, " +
      "a data directory that can be written needed",
  });
  equal(await gone.isCompleted(), false);
});
