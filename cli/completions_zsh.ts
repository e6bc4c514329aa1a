import type { Offer, OfferedFlag, OfferedPlace, Value } from "./completion_table.ts";

/** The completions for zsh: a function for each command, with `_arguments` doing the work. */
export function zshCompletions(offers: readonly Offer[]): string {
  return `#compdef exo
# Completions of exo for zsh, written by: exo completions zsh
${offers.map(functionOf).join("\n\n")}

# Autoloaded from a file _exo, or read by source.
if [ "$funcstack[1]" = "_exo" ]; then
  _exo "$@"
else
  compdef _exo exo
fi`;
}

function functionOf(offer: Offer): string {
  const { path, subcommands, flags, places } = offer;
  const name = nameOf(path);
  if (subcommands.length === 0) {
    const specs = [...flags.map(flagSpec), ...places.map(placeSpec)];
    return `${name}() {\n  _arguments -s \\\n    ${specs.join(" \\\n    ")}\n}`;
  }
  const specs = [...flags.map(flagSpec), "'1:command:->command'", "'*::argument:->argument'"];
  return `${name}() {
  local curcontext="$curcontext" state line
  typeset -A opt_args
  local -a commands
  commands=(
${subcommands.map(({ name, summary }) => `    ${quoted(`${name}:${summary}`)}`).join("\n")}
  )
  _arguments -C \\
    ${specs.join(" \\\n    ")}
  case $state in
    command) _describe -t commands command commands ;;
    argument)
      case $words[1] in
${subcommands.map((one) => `        ${one.name}) ${nameOf(`${path} ${one.name}`)} ;;`).join("\n")}
      esac
      ;;
  esac
}`;
}

function nameOf(path: string): string {
  return `_${path.replaceAll(/\W/g, "_")}`;
}

function flagSpec({ long, short, description, isList, value, label }: OfferedFlag): string {
  const about = `[${description.replaceAll(/[[\]]/g, "\\$&")}]`;
  const rest = value === "none" ? about : `=${about}:${escaped(label)}:${actionOf(value)}`;
  if (short === undefined) return quoted(`${isList ? "*" : ""}${long}${rest}`);
  return `${quoted(`(${short} ${long})`)}{${short},${long}}${quoted(rest)}`;
}

function placeSpec({ label, isList, value }: OfferedPlace, index: number): string {
  return quoted(`${isList ? "*" : index + 1}:${escaped(label)}:${actionOf(value)}`);
}

function actionOf(value: Value): string {
  if (typeof value !== "string") return `(${value.join(" ")})`;
  if (value === "folder") return "_files -/";
  return value === "file" ? "_files" : " ";
}

function escaped(text: string): string {
  return text.replaceAll(":", "\\:");
}

function quoted(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
