import type { NodeId } from "../core/ids.ts";

/** Messages of a stream that may wait at the receiver before `send` holds its caller back. */
export const STREAM_CREDIT_MESSAGES = 256;

/** Largest message on a topic, a request or a stream. */
export const MESSAGE_BYTES_MAX = 64 * 1024 * 1024;

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

/** How a node talks to others. A node may address itself: that is in process and cannot fail. */
export interface Transport {
  readonly self: NodeId;
  /** Tells all other subscribers of a topic; at most once each, in order per sender. */
  publish(topic: string, message: Uint8Array): void;
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
  /** Ends every subscription and breaks every stream. */
  close(): void;
}
