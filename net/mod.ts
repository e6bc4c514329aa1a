/**
 * Messages between nodes: what is sent, with which promise, and over what.
 *
 * May import `core/` and the networking libraries. Read `transport.ts` first, then `topics.ts`.
 *
 * @module
 */
export { MemoryNetwork } from "./memory.ts";
export { newIdentity, nodeIdOf } from "./identity.ts";
export * from "./topics.ts";
export type { MessageStream, Transport } from "./transport.ts";
