/**
 * What the system said, in words: without the number of its error, the call and the path, which
 * the message around it names.
 */
export function systemReason(cause: unknown): string {
  if (cause instanceof Deno.errors.AlreadyExists) return "there is a file of that name";
  if (cause instanceof Deno.errors.NotADirectory) return "a part of the path is a file";
  if (cause instanceof Deno.errors.IsADirectory) return "it is a folder, a file needed";
  const said = cause instanceof Error ? cause.message : String(cause);
  const words = said.replace(/ \(os error \d+\).*$/s, "").replace(/^E[A-Z]+: |, \w+ '.*'$/g, "");
  return words.charAt(0).toLowerCase() + words.slice(1);
}
