import type { Offer, OfferedFlag, Value } from "./completion_table.ts";

/** The completions for fish: one line for each thing that can be typed. */
export function fishCompletions(offers: readonly Offer[]): string {
  const valued = offers.flatMap(({ flags }) => flags)
    .filter(({ value }) => value !== "none").map(({ long }) => long);
  return `# Completions of exo for fish, written by: exo completions fish
function __exo_is --description 'Whether the words so far name this command'
    set -l words (commandline -opc)
    set -e words[1]
    set -l path exo
    set -l is_value 0
    for word in $words
        if test $is_value = 1
            set is_value 0
        else if contains -- $word ${[...new Set(valued)].join(" ")}
            set is_value 1
        else if contains -- "$path $word" ${
    offers.slice(1).map(({ path }) => quoted(path)).join(" ")
  }
            set path "$path $word"
        end
    end
    test "$path" = "$argv"
end

complete -c exo -f
${offers.flatMap(linesOf).join("\n")}`;
}

function linesOf({ path, subcommands, flags, places }: Offer): string[] {
  const start = `complete -c exo -n ${quoted(`__exo_is ${path}`)}`;
  const value = places.find(({ value }) => value !== "word")?.value ?? "word";
  return [
    ...subcommands.map(({ name, summary }) => `${start} -a ${name} -d ${quoted(summary)}`),
    ...flags.map((flag) => `${start} ${flagWords(flag)} -d ${quoted(flag.description)}`),
    ...(value === "word" ? [] : [`${start}${value === "file" ? " -F" : argumentsOf(value)}`]),
  ];
}

function flagWords({ long, short, value }: OfferedFlag): string {
  const names = `${short === undefined ? "" : `-s ${short.slice(1)} `}-l ${long.slice(2)}`;
  if (value === "none") return names;
  return value === "file" ? `${names} -r -F` : `${names} -x${argumentsOf(value)}`;
}

function argumentsOf(value: Value): string {
  if (value === "folder") return " -a '(__fish_complete_directories)'";
  return typeof value === "string" ? "" : ` -a ${quoted(value.join(" "))}`;
}

function quoted(text: string): string {
  return `'${text.replaceAll(/[\\']/g, "\\$&")}'`;
}
