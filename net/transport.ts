import type { NodeId } from "../core/ids.ts";

/** Messages of a stream that may wait at the receiver before `send` holds its caller back. */
export const STREAM_CREDIT_MESSAGES = 256;

/** Largest request, answer or message of a stream. */
export const MESSAGE_BYTES_MAX = 64 * 1024 * 1024;

/** Largest message on a topic: every node passes it on to several others. */
export const PUBLISH_BYTES_MAX = 1024 * 1024;

/** Largest message on a topic to one peer: it goes in one piece. */
export const TELL_BYTES_MAX = 32 * 1024;

/** A link on which nothing was heard for so long is gone. */
export const LINK_SILENCE_MS = 3_000;

/**
 * Two directions of messages between two nodes, each in order. Iterating yields what the other
 * end sent and ends when that end has ended.
 */
export interface MessageStream extends AsyncIterable<Uint8Array> {
  readonly peer: NodeId;
  /**
   * Resolves once the message is under way; waits while the other end is behind by
   * `STREAM_CREDIT_MESSAGES`.
   * @throws {AppError} `node_unreachable` when either end has gone.
   */
  send(message: Uint8Array): Promise<void>;
  /** No more messages from this side; what was sent still arrives. */
  end(): void;
  /** Breaks both directions at once; nothing to do once both have ended. */
  abort(reason: string): void;
  /** Aborted when either end breaks the stream. */
  readonly aborted: AbortSignal;
}

/**
 * A way from this node to a peer that is proven (design D13): its port was dialled at this address,
 * and the peer has shown that it is the one. It goes when it is silent for `LINK_SILENCE_MS`.
 */
export interface Link {
  readonly peer: NodeId;
  /** A multiaddr without the peer's id: `/ip4/10.0.0.2/tcp/52414`. */
  readonly address: string;
  /** One round trip, as lately measured; absent before the first. */
  readonly rttMs?: number | undefined;
}

/** A peer can be reached now, whoever dialled; or not any more. */
export interface PeerChange {
  readonly peer: NodeId;
  readonly isConnected: boolean;
}

/** How a node talks to others. A node may address itself: that is in process and cannot fail. */
export interface Transport {
  readonly self: NodeId;
  /** Where others can dial this node: multiaddrs with its id. */
  addresses(): readonly string[];
  /** All others that can be reached now. */
  peers(): ReadonlySet<NodeId>;
  /** Hears of each change of `peers()`, after it. */
  onPeer(listener: (change: PeerChange) => void): () => void;
  /** The proven ways from this node, several to a peer with several addresses. */
  links(): readonly Link[];
  /** Called after a link has come or gone; a new round-trip time alone is no change. */
  onLinks(listener: () => void): () => void;
  /**
   * Tells all other subscribers of a topic: at most once each, mostly in order. What was said before
   * a peer's subscription was known is lost to it.
   * @throws {AppError} `payload_too_large` over `PUBLISH_BYTES_MAX`.
   */
  publish(topic: string, message: Uint8Array): void;
  /**
   * Tells the subscribers of a topic at one peer: at most once. Half of the traffic of a request
   * whose answer says nothing.
   * @throws {AppError} `node_unreachable`, `queue_full`, `payload_too_large` over `TELL_BYTES_MAX`.
   */
  tell(peer: NodeId, topic: string, message: Uint8Array): void;
  /**
   * Calls `handler` with each message of others until the returned function is called. A message
   * that makes it throw is lost to it, and to nobody else.
   */
  subscribe(topic: string, handler: (message: Uint8Array, from: NodeId) => void): () => void;
  /**
   * One question, one answer.
   * @throws {AppError} `node_unreachable`, `timed_out` after `timeoutMs`, or what the handler threw
   * (`internal` when that is no `AppError`).
   */
  request(
    peer: NodeId,
    protocol: string,
    body: Uint8Array,
    options: { timeoutMs: number },
  ): Promise<Uint8Array>;
  /** Answers requests of `protocol`. */
  handle(
    protocol: string,
    handler: (body: Uint8Array, from: NodeId) => Promise<Uint8Array>,
  ): () => void;
  /** @throws {AppError} `node_unreachable`. */
  openStream(peer: NodeId, protocol: string): Promise<MessageStream>;
  /** Takes the streams that others open for `protocol`; one that makes it throw is broken. */
  handleStream(protocol: string, handler: (stream: MessageStream) => void): () => void;
  /** Messages that were given up since the start because a queue was full. */
  droppedCount(): number;
  /** Ends every subscription and breaks every stream at once; resolves when the port is free. */
  close(): Promise<void>;
}
