import type { Offer, Value } from "./completion_table.ts";

/** Words to choose from after these: paths of commands, or paths with a flag. */
interface Case {
  readonly at: string;
  readonly value: Value;
}

/** The completions for bash 3.2 and later, which has no table of its own to fill. */
export function bashCompletions(offers: readonly Offer[]): string {
  const flags = offers.flatMap((offer) => offer.flags);
  const valued = flags.filter(({ value }) => value !== "none").map(({ long }) => `*" ${long}"`);
  const values = offers.flatMap(({ path, flags }) =>
    flags.filter(({ value }) => value !== "none" && value !== "word")
      .map(({ long, value }): Case => ({ at: `${path} ${long}`, value }))
  );
  const places = offers.map(({ path, subcommands, places }): Case => ({
    at: path,
    value: subcommands.length > 0
      ? subcommands.map(({ name }) => name)
      : places.find(({ value }) => value !== "word")?.value ?? "word",
  }));
  const skipped = [...new Set(valued)].join(" | ");
  return `# Completions of exo for bash, written by: exo completions bash
_exo_words() {
  COMPREPLY=($(compgen -W "$1" -- "$cur"))
}

_exo_paths() {
  local IFS=$'\\n'
  compopt -o filenames 2>/dev/null
  COMPREPLY=($(compgen "$1" -- "$cur"))
}

_exo() {
  local cur prev word i path=exo
  COMPREPLY=()
  cur=\${COMP_WORDS[COMP_CWORD]}
  prev=\${COMP_WORDS[COMP_CWORD - 1]}
  # Bash takes --flag=value for three words.
  if [[ $cur == "=" ]]; then
    cur=
  elif [[ $prev == "=" ]]; then
    prev=\${COMP_WORDS[COMP_CWORD - 2]}
  fi
  for ((i = 1; i < COMP_CWORD; i++)); do
    word=\${COMP_WORDS[i]}
    case "$path $word" in
      ${skipped})
        i=$((i + 1))
        [[ \${COMP_WORDS[i]} == "=" ]] && i=$((i + 1))
        ;;
      ${offers.slice(1).map(({ path }) => `"${path}"`).join(" | ")})
        path="$path $word"
        ;;
    esac
  done
  case "$path $prev" in
${values.map(line).join("\n")}
    ${skipped}) return ;;
  esac
  if [[ $cur == -* ]]; then
    case "$path" in
${offers.map(({ path, flags }) => line({ at: path, value: flags.flatMap(spellings) })).join("\n")}
    esac
    return
  fi
  case "$path" in
${places.filter(({ value }) => value !== "word").map(line).join("\n")}
  esac
}

complete -F _exo exo`;
}

function spellings({ long, short }: Offer["flags"][number]): string[] {
  return short === undefined ? [long] : [short, long];
}

function line({ at, value }: Case): string {
  const words = typeof value === "string"
    ? `_exo_paths ${value === "folder" ? "-d" : "-f"}`
    : `_exo_words "${value.join(" ")}"`;
  return `    "${at}") ${words}; return ;;`;
}
