import { equal } from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { installCommand } from "../../ffi/command.ts";

/** A failure as whoever caused it is told of it. */
export interface Told {
  /** What went wrong, in a few words. */
  readonly name: string;
  /** How it was provoked: a request, a command line, a file. */
  readonly by: string;
  /** What a program sees: `400 invalid_request`, `exit 2 usage`. */
  readonly outcome: string;
  readonly message: string;
  readonly hint?: string | undefined;
  readonly param?: string | undefined;
}

/** Text that differs from run to run, and the word that stands for it in the golden files. */
const CHANGING: readonly (readonly [RegExp, string])[] = [
  [/(?:\/[\w./-]*)?exo-test-\w+/g, "DIR"],
  [/\b12D3Koo\w+/g, "NODE"],
  [/\b[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}\b/g, "ID"],
  [/\b(127\.0\.0\.1|0\.0\.0\.0):(?!1\b)\d+/g, "$1:PORT"],
  [/--port (?!99999)\d{4,5}\b/g, "--port PORT"],
  [/[\d.]+ [GM]iB free/g, "SIZE free"],
  [/"shim_\w+"/g, '"shim_…"'],
  [/(shim|wheels)-[0-9a-f]{16}/g, "$1-STAMP"],
];

const ROOT = fileURLToPath(new URL("../..", import.meta.url)).replace(/\/$/, "");

/** `text` without what differs between two runs or two machines. */
export function steady(text: string): string {
  const programs = ["python3", "pip", "c++"] as const;
  const rooted = programs.reduce(
    (text, program) => text.replaceAll(installCommand(program), `INSTALL ${program}`),
    text.replaceAll(ROOT, "ROOT").replaceAll(`${Deno.build.os} ${Deno.build.arch}`, "OS ARCH"),
  );
  return CHANGING.reduce((steady, [pattern, word]) => steady.replace(pattern, word), rooted);
}

/** Whether this run rewrites the golden files: `deno test -A tests/messages_test.ts -- --update`. */
const IS_UPDATE = Deno.args.includes("--update");

/** Compares with `tests/golden/messages/<area>.md`, or rewrites it. */
export function checkGolden(area: string, title: string, all: readonly Told[]): void {
  const file = new URL(`../golden/messages/${area}.md`, import.meta.url);
  const text = steady(`# ${title}\n\n${all.map(block).join("\n")}`);
  if (IS_UPDATE) Deno.writeTextFileSync(file, text);
  const golden = Deno.readTextFileSync(file);
  equal(text, golden, "review the change, then: deno test -A tests/messages_test.ts -- --update");
}

function block({ name, by, outcome, message, hint, param }: Told): string {
  const lines = [
    `## ${name}`,
    "",
    `- by: \`${by.replaceAll("\n", "\\n")}\``,
    `- outcome: ${outcome}`,
  ];
  if (message !== "") lines.push(`- message: ${message.replaceAll("\n", "\n    ")}`);
  if (hint !== undefined) lines.push(`- hint: ${hint}`);
  if (param !== undefined) lines.push(`- param: ${param}`);
  return `${lines.join("\n")}\n`;
}

/** Messages that clients of exo know by heart, and so keep their words (spec §1.2). */
const BY_HEART = [
  /^(MetaInstance|Instance|Instance link) not found$/,
  /^Instance \S+ not found$/,
  /^No instance found for model /,
  /^Model "[^"]+" is not known$/,
  /^Custom model card not found$/,
  /^unable to find path '.+' in state json$/,
  /^Node is not ready: /,
];

/** States of an instance, reported as such: what was attempted is the instance itself. */
const REPORTS = [
  // What the model's own template says.
  /^Cannot build the prompt: /,
  /^Instance \S+ (of \S+ is not ready|is not ready|is not exists|failed|was removed)/,
  /^Runner (terminated|shutdown)/,
];

/** What no message may hold: our own words for values, types, classes and stack frames. */
const INNARDS =
  /\bundefined\b|\[object |\bNaN\b|\bzod\b|\w+Error\b|\bat \S+:\d+:\d+|\bInvalid input\b|os error/i;

/** A stack, or the colours of a terminal. */
// deno-lint-ignore no-control-regex
const TRACE = /\x1b\[|^\s+at /m;

/** Something in a message that is of this very case: a quoted name, a figure, a path, a place. */
const SUBJECT = /\bfound \S|"[^"]+"|'[^']+'|\d|\/|\b[a-z_]+\.[a-z]+\b|--\w|\bEXO_\w+/;

/** How a message says what was needed; those that report a state need not. */
const NEED = /\b(needed|expected|possible)\b/;

/** Hints that would fit any message, and so help with none. */
const GENERIC =
  /^((please )?(try|ask|send the request) again( later| in a moment)?|leave it out|correct .+ and .+ again|choose another \w+)$/;

/** What is wrong with the words of a message, by the rules of style.md §2; none when all is well. */
export function complaints({ name, message, hint }: Told, needsHint: boolean): string[] {
  const found: string[] = [];
  const isKnown = [...BY_HEART, ...REPORTS].some((form) => form.test(message));
  if (!/^Cannot /.test(message) && !isKnown) found.push("does not begin with Cannot");
  if (/[.!]$/.test(message)) found.push("ends with a stop");
  // What another program said follows on lines of its own, in its own words.
  const [own = ""] = message.split("\n");
  if (INNARDS.test(own)) found.push(`tells of innards: ${INNARDS.exec(own)}`);
  if (TRACE.test(message)) found.push("shows a stack or colours");
  if (!SUBJECT.test(message) && !isKnown) found.push("names nothing of this case");
  if (!NEED.test(own) && !isKnown) found.push("does not say what was needed");
  if (hint === undefined || hint === "") {
    if (needsHint) found.push("has no hint");
    return found.map((what) => `${name}: ${what}: ${message}`);
  }
  if (GENERIC.test(hint)) found.push(`its hint would fit anything: ${hint}`);
  if (/[.!]$/.test(hint)) found.push("its hint ends with a stop");
  if (/^[A-Z][a-z]/.test(hint)) found.push(`its hint has a capital: ${hint}`);
  if (INNARDS.test(hint)) found.push(`its hint tells of innards: ${hint}`);
  if (hint === message) found.push("its hint says nothing new");
  return found.map((what) => `${name}: ${what}: ${message}`);
}
