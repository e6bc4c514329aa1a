import { deepEqual, equal, match, rejects } from "node:assert/strict";
import { installOnce } from "../../../bench/peers/install.ts";
import { llamaCpp } from "../../../bench/peers/llama_cpp.ts";
import { mlxLm } from "../../../bench/peers/mlx_lm.ts";
import type { InstallContext } from "../../../bench/peers/peer.ts";
import { PEER_PACKAGES } from "../../../bench/peers/versions.ts";
import { Processes } from "../../../bench/processes.ts";
import { AppError } from "../../../core/errors.ts";
import { MLX_VERSION } from "../../../ffi/wheels.ts";
import { TempDir } from "../../support/temp_dir.ts";

function contextIn(folder: string, run: InstallContext["run"] = () => Promise.resolve("")) {
  return { folder, run, onProgress: () => {} };
}

const exists = (path: string) => Deno.stat(path).then(() => true, () => false);

Deno.test("An installation that ended is there the next time; one that did not starts anew", async () => {
  await using dir = await TempDir.make();
  const context = contextIn(dir.path);
  let tries = 0;
  const install = async (folder: string) => {
    equal(await exists(`${folder}/left`), false);
    await Deno.writeTextFile(`${folder}/left`, "");
    if (++tries === 1) throw new Error("the power went");
  };
  await rejects(installOnce("p", context, install), /the power went/);
  for (let time = 0; time < 2; time++) {
    equal(await installOnce("p", context, install), `${dir.path}/p`);
  }
  equal(tries, 2);
});

Deno.test("An installation for another processor is made again", async () => {
  await using dir = await TempDir.make();
  const made: string[] = [];
  for (const fingerprint of ["a", "a", "b", "b"]) {
    await installOnce("p", { ...contextIn(dir.path), fingerprint }, () => {
      made.push(fingerprint);
      return Promise.resolve();
    });
  }
  deepEqual(made, ["a", "b"]);
});

Deno.test("Each package of a peer is pinned, MLX at exo's own version", () => {
  for (const version of Object.values(PEER_PACKAGES)) match(version, /^\d+\.\d+\.\d+$/);
  equal(PEER_PACKAGES.mlx, MLX_VERSION);
});

Deno.test("Packages are asked for by their pinned versions", async () => {
  await using dir = await TempDir.make();
  const asked: string[] = [];
  const run: InstallContext["run"] = (program, args, { cwd }) => {
    asked.push([program, ...args].join(" "));
    if (program !== "npm") return Promise.resolve("");
    Deno.writeTextFileSync(`${cwd}/p.tgz`, "");
    Deno.mkdirSync(`${cwd}/package`);
    return Promise.resolve("p.tgz\n");
  };
  for (const peer of [llamaCpp, mlxLm]) await peer.install(contextIn(dir.path, run));
  for (const [name, version] of Object.entries(PEER_PACKAGES)) {
    const pinned = new RegExp(`${name}(\\[cpu\\])?(==|@)${RegExp.escape(version)}`);
    equal(asked.some((command) => pinned.test(command)), true, name);
  }
  equal(
    asked.every((command) => !command.startsWith("npm") || command.includes("--ignore-scripts")),
    true,
  );
});

Deno.test("llama.cpp for several machines is a build of its own, beside the one without", async () => {
  await using dir = await TempDir.make();
  const asked: string[] = [];
  const run: InstallContext["run"] = (program, args, { cwd }) => {
    asked.push([program, ...args].join(" "));
    if (program !== "npm") return Promise.resolve("");
    Deno.writeTextFileSync(`${cwd}/p.tgz`, "");
    Deno.mkdirSync(`${cwd}/package`);
    return Promise.resolve("p.tgz\n");
  };
  const paths = [];
  for (const rpc of [false, true]) {
    const { program } = await llamaCpp.install(contextIn(dir.path, run), { rpc });
    paths.push(program("llama-server"));
  }
  equal(new Set(paths).size, 2);
  const of = (pattern: RegExp) => asked.filter((command) => pattern.test(command));
  deepEqual(of(/-S src/).map((command) => command.includes("-DGGML_RPC=ON")), [false, true]);
  deepEqual(of(/--build/).map((command) => command.includes("ggml-rpc-server")), [false, true]);
});

Deno.test("A peer that cannot be installed says which program is missing", async () => {
  await using dir = await TempDir.make();
  await using processes = new Processes(new AbortController().signal);
  const missing = [
    [llamaCpp, "git"],
    [llamaCpp, "g++"],
    [llamaCpp, "npm"],
    [llamaCpp, "python3"],
    [mlxLm, "python3"],
  ] as const;
  for (const [peer, absent] of missing) {
    const run: InstallContext["run"] = (program, args, options) =>
      program === absent
        ? processes.run(`${absent}-is-not-here`, args, options)
        : Promise.resolve("");
    await rejects(peer.install(contextIn(dir.path, run)), (error: AppError) => {
      equal(error.code, "setup_failed");
      match(error.message, new RegExp(`Cannot run ${RegExp.escape(absent)}`));
      return error.hint !== undefined;
    });
  }
});
