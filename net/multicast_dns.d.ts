// The part of `multicast-dns` that we use: its own types bring in a whole other set of globals.

/** One resource record. */
export interface Record {
  readonly name: string;
  readonly type: string;
  readonly ttl?: number;
  /** A name, or one or more texts of bytes. */
  readonly data?: string | Uint8Array | readonly (string | Uint8Array)[];
}
/** A packet with questions. */
export interface Query {
  readonly questions?: readonly { readonly name: string }[];
}
/** A packet with answers. */
export interface Response {
  readonly answers?: readonly Record[];
  readonly additionals?: readonly Record[];
}
/** A socket that asks and answers on one interface. */
export interface Socket {
  on(event: "error" | "warning", listener: (cause: Error) => void): void;
  on(event: "query", listener: (packet: Query) => void): void;
  on(event: "response", listener: (packet: Response) => void): void;
  query(query: { questions: readonly { name: string; type: string }[] }): void;
  respond(response: { answers: readonly Record[] }): void;
  destroy(done?: () => void): void;
}
/** Opens a socket. */
export default function multicastDns(options: { interface: string; bind: string }): Socket;
