import { equal, match, rejects } from "node:assert/strict";
import { join } from "node:path";
import { freePort, whenHealthy } from "../../bench/network.ts";
import { Processes } from "../../bench/processes.ts";
import { AppError } from "../../core/errors.ts";
import { TempDir } from "../support/temp_dir.ts";

const never = new AbortController().signal;

Deno.test("whenHealthy() waits for a status of success", async () => {
  await using dir = await TempDir.make();
  await using processes = new Processes(never);
  const process = processes.start("sleep", ["1000"], { logPath: join(dir.path, "log") });
  let asked = 0;
  const options = { hostname: "127.0.0.1", port: 0, onListen: () => {} };
  await using server = Deno.serve(options, () => {
    return new Response(null, { status: ++asked < 3 ? 503 : 200 });
  });
  await whenHealthy(`http://127.0.0.1:${server.addr.port}/health`, process);
  equal(asked, 3);
});

Deno.test("whenHealthy() says how a server ended, and what it said last", async () => {
  await using dir = await TempDir.make();
  await using processes = new Processes(never);
  const logPath = join(dir.path, "log");
  const process = processes.start("sh", ["-c", "echo no such model >&2; exit 4"], { logPath });
  const url = `http://127.0.0.1:${freePort()}/health`;
  await rejects(whenHealthy(url, process), (error: AppError) => {
    equal(error.code, "setup_failed");
    match(error.message, /^Cannot start a server: found exit code 4, .*no such model$/s);
    return error.hint === `all that it said is in ${logPath}`;
  });
});
