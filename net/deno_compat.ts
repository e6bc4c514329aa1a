/** What js-libp2p needs under Deno, and nothing else; `@libp2p/deno-compat` in the import map. */
export {};
