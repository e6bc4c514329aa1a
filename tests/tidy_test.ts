import assert from "node:assert/strict";
import { dirname, join, normalize } from "node:path";
import { renderCards } from "../cards/source/generate.ts";
import { renderCliDocs } from "../cli/docs.ts";
import { renderHeader } from "../ffi/generate_header.ts";

const ROOT = new URL("..", import.meta.url).pathname;

/** What each room may import: other rooms, and libraries (style, §2). */
const ROOMS: Readonly<Record<string, { rooms: readonly string[]; libraries: RegExp }>> = {
  core: { rooms: [], libraries: /^zod$/ },
  net: {
    rooms: ["core"],
    libraries:
      /^(zod|node:.*|libp2p|@libp2p\/.*|@multiformats\/multiaddr|multicast-dns|@peculiar\/x509|reflect-metadata)$/,
  },
  ffi: { rooms: [], libraries: /^node:/ },
  engines: { rooms: ["core", "ffi"], libraries: /^(zod|node:.*|@huggingface\/.*)$/ },
  cards: { rooms: ["core"], libraries: /^(zod|smol-toml)$/ },
  node: { rooms: ["core", "net"], libraries: /^(zod|node:.*|@logtape\/logtape|smol-toml)$/ },
  api: {
    rooms: ["core"],
    libraries:
      /^(zod|node:.*|hono(\/.*)?|@hono\/node-server|eventsource-parser(\/.*)?|fastest-levenshtein|prom-client)$/,
  },
  bench: { rooms: ["core", "net", "api", "engines"], libraries: /./ },
  cli: {
    rooms: ["core", "net", "ffi", "engines", "node", "api", "bench"],
    libraries: /./,
  },
};

/** Calls that make an outcome depend on more than its arguments. */
const IMPURE =
  /\b(Deno\.|Date\.now|new Date\(\)|Math\.random|crypto\.|performance\.|async\s|await\s|setTimeout|setInterval|fetch\()/;

interface Source {
  readonly path: string;
  readonly text: string;
  readonly imports: readonly string[];
}

async function* walk(folder: string): AsyncGenerator<string> {
  for await (const { name, isDirectory } of Deno.readDir(join(ROOT, folder))) {
    const path = join(folder, name);
    if (isDirectory) yield* walk(path);
    else if (path.endsWith(".ts")) yield path;
  }
}

async function sources(...folders: readonly string[]): Promise<Source[]> {
  const found: Source[] = [];
  for (const folder of folders) {
    for await (const path of walk(folder)) {
      const text = await Deno.readTextFile(join(ROOT, path));
      const imports = [
        ...text.matchAll(
          /^(?:import|export)\b[^;]*?\bfrom\s+"([^"]+)"|\bimport\(\s*"([^"]+)"\s*\)|^import\s+"([^"]+)"/gm,
        ),
      ]
        .map((match) => match[1] ?? match[2] ?? match[3] ?? "");
      found.push({ path, text, imports });
    }
  }
  return found;
}

/** The room that a relative import leads to; undefined for a library. */
function roomOf(path: string, specifier: string): string | undefined {
  if (!specifier.startsWith(".")) return undefined;
  return normalize(join(dirname(path), specifier)).split("/")[0];
}

/** Comments and texts may name what code may not do. */
function codeOf(text: string): string {
  return text.replace(/\/\*[\s\S]*?\*\/|\/\/[^\n]*/g, "").replace(/`[^`]*`|"[^"\n]*"/g, '""');
}

Deno.test("rooms import only what their rule allows", async () => {
  const wrong: string[] = [];
  for (const [room, rule] of Object.entries(ROOMS)) {
    for (const { path, imports } of await sources(room)) {
      for (const specifier of imports) {
        const target = roomOf(path, specifier);
        const isAllowed = target === undefined
          ? rule.libraries.test(specifier)
          : target === room || rule.rooms.includes(target) || specifier.endsWith("deno.json");
        if (!isAllowed) wrong.push(`${path} imports ${specifier}`);
      }
    }
  }
  assert.deepEqual(wrong, []);
});

Deno.test("nothing but main.ts imports the command line", async () => {
  const rooms = Object.keys(ROOMS).filter((room) => room !== "cli");
  const wrong = (await sources(...rooms))
    .filter(({ path, imports }) => imports.some((one) => roomOf(path, one) === "cli"));
  assert.deepEqual(wrong.map(({ path }) => path), []);
});

Deno.test("core reads no clock, no randomness, no files, and never waits", async () => {
  const wrong = (await sources("core"))
    .flatMap(({ path, text }) => {
      const found = IMPURE.exec(codeOf(text));
      return found ? [`${path}: ${found[0]}`] : [];
    });
  assert.deepEqual(wrong, []);
});

Deno.test("only node/clock.ts reads the time and randomness of node/", async () => {
  const readers = (await sources("node", "net"))
    .filter(({ path }) => path !== "node/clock.ts")
    .filter(({ text }) => /Date\.now|Math\.random|crypto\.(random|get)/.test(codeOf(text)));
  assert.deepEqual(readers.map(({ path }) => path), []);
});

Deno.test("every file is reached from an entry point or a test", async () => {
  const all = await sources(...Object.keys(ROOMS), "tests");
  const main = await Deno.readTextFile(join(ROOT, "main.ts"));
  const tasks = await Deno.readTextFile(join(ROOT, "deno.json"));
  const reached = new Set<string>();
  for (const { path, imports, text } of [...all, { path: "main.ts", text: main, imports: [] }]) {
    for (const specifier of imports) {
      if (specifier.startsWith(".")) reached.add(normalize(join(dirname(path), specifier)));
    }
    for (const [, file] of text.matchAll(/"(?:\.\/|\.\.\/)?([\w/]+(?:\.d)?\.ts)"/g)) {
      reached.add(normalize(join(dirname(path), file ?? "")));
    }
  }
  const dead = all.map(({ path }) => path)
    .filter((path) => !reached.has(path) && !/_test\.ts$/.test(path))
    .filter((path) => !tasks.includes(path) && !/(^|\/)(mod|example)\.ts$/.test(path));
  assert.deepEqual(dead, []);
});

Deno.test("every export has a sentence that says what it is", async () => {
  const exported = /^export (?:async )?(?:const|function\*?|class|interface|type) (\w+)/;
  const bare: string[] = [];
  for (const { path, text } of await sources(...Object.keys(ROOMS))) {
    const lines = text.split("\n");
    for (const [at, line] of lines.entries()) {
      const name = exported.exec(line)?.[1];
      if (name === undefined || line.includes("z.infer<") || lines[at - 1]?.endsWith("*/")) {
        continue;
      }
      bare.push(`${path}:${at + 1} ${name}`);
    }
  }
  assert.deepEqual(bare, []);
});

Deno.test("generated files are what their generators write", async () => {
  const read = (path: string) => Deno.readTextFile(join(ROOT, path));
  assert.equal(await read("ffi/shim.h"), renderHeader(), "run: deno task docs");
  assert.equal(await read("docs/cli.md"), await renderCliDocs(), "run: deno task docs");
  const cards = renderCards(await read("cards/source/models.toml"));
  for await (const { name, isFile } of Deno.readDir(join(ROOT, "cards"))) {
    if (!isFile) continue;
    const why = `${name}; run: deno run -A cards/source/generate.ts`;
    assert.equal(await read(`cards/${name}`), cards.get(name), why);
    cards.delete(name);
  }
  assert.deepEqual([...cards.keys()], [], "run: deno run -A cards/source/generate.ts");
});

Deno.test("tracked text names no registry host and no path of one machine", async () => {
  const host = /https?:\/\/[^\s"')]*(pypi|pythonhosted|npmjs|crates\.io|artifactory)/;
  const wrong = (await sources(...Object.keys(ROOMS)))
    .filter(({ text }) => host.test(text) || /["' ]\/(work|root)\//.test(text));
  assert.deepEqual(wrong.map(({ path }) => path), []);
});
