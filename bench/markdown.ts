const LINE_CHARS_MAX = 100;

/** Cells of a table's row. */
export type Row = readonly string[];

/** Paragraphs in lines of the house's width; tables, lists and commands as they are. */
export function laidOut(section: string): string {
  return /^[A-Z]/.test(section) ? wrap(section) : section;
}

/** Text in such lines; those of a list's item but the first are indented. */
export function wrap(text: string): string {
  const indent = text.startsWith("- ") ? "  " : "";
  const lines: string[] = [];
  for (const word of text.split(" ")) {
    const last = lines.at(-1);
    if (last === undefined) lines.push(word);
    else if (last.length + word.length < LINE_CHARS_MAX) {
      lines[lines.length - 1] = `${last} ${word}`;
    } else lines.push(`${indent}${word}`);
  }
  return lines.join("\n");
}

/** A table of Markdown. */
export function table(head: Row, rows: readonly Row[]): string {
  const line = (row: Row) => `| ${row.join(" | ")} |`;
  return [line(head), line(head.map(() => "---")), ...rows.map(line)].join("\n");
}

/** Three digits that matter are enough for people. */
export function shown(value: number | null): string {
  if (value === null) return "-";
  if (Number.isInteger(value)) return String(value);
  return value.toFixed(value >= 100 ? 0 : value >= 10 ? 1 : 2);
}
