/** Variables for a node that nobody else's node finds: a namespace of its own, and any port. */
export function apart(): Readonly<Record<string, string>> {
  return { EXO_LIBP2P_NAMESPACE: `test-${crypto.randomUUID()}`, EXO_LIBP2P_PORT: "0" };
}
