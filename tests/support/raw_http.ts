/** What is written on a connection, as it is: no library mends it. */
export interface RawRequest {
  readonly method: string;
  readonly path: string;
  readonly body?: string | undefined;
  /** Bytes of the answer after which the client hangs up; all of it unless said. */
  readonly patienceBytes?: number;
  /** Bytes of the request after which the client sends no more, and waits; all of it unless said. */
  readonly sentBytes?: number;
}

/** What came back before the connection ended. */
export interface RawReply {
  /** 0 when the connection ended without a status line. */
  readonly status: number;
  /** Head and body, chunked as it came. */
  readonly text: string;
}

/** Longest time until an answer has come in full. */
const ANSWER_MS_MAX = 60_000;

/** Largest answer that is kept. */
const TEXT_BYTES_MAX = 1_048_576;

/**
 * Sends one request on a connection of its own and reads until the server closes it.
 * @throws {Error} when the answer is not over within its time.
 */
export async function rawRequest(url: string, request: RawRequest): Promise<RawReply> {
  const { hostname, port } = new URL(url);
  using connection = await Deno.connect({ hostname, port: Number(port) });
  const timeout = setTimeout(() => connection.close(), ANSWER_MS_MAX);
  try {
    const bytes = bytesOf(request, `${hostname}:${port}`);
    // A server that refuses early may close before it has read everything.
    await writeAll(connection, bytes.subarray(0, request.sentBytes)).catch(() => {});
    const text = await readText(connection, request.patienceBytes ?? Infinity);
    return { status: Number(/^HTTP\/1\.1 (\d{3})/.exec(text)?.[1] ?? 0), text };
  } catch (cause) {
    if (!(cause instanceof Deno.errors.BadResource)) throw cause;
    throw new Error(`No answer within ${ANSWER_MS_MAX} ms`, { cause });
  } finally {
    clearTimeout(timeout);
  }
}

function bytesOf({ method, path, body }: RawRequest, host: string): Uint8Array {
  const encoder = new TextEncoder();
  const content = body === undefined ? undefined : encoder.encode(body);
  const lines = [`${method} ${path} HTTP/1.1`, `Host: ${host}`, "Connection: close"];
  if (content) lines.push("Content-Type: application/json", `Content-Length: ${content.length}`);
  const head = encoder.encode(`${lines.join("\r\n")}\r\n\r\n`);
  const bytes = new Uint8Array(head.length + (content?.length ?? 0));
  bytes.set(head);
  if (content) bytes.set(content, head.length);
  return bytes;
}

async function writeAll(connection: Deno.Conn, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length;) at += await connection.write(bytes.subarray(at));
}

async function readText(connection: Deno.Conn, patienceBytes: number): Promise<string> {
  const buffer = new Uint8Array(16_384);
  const decoder = new TextDecoder();
  let text = "";
  for (let total = 0; total < patienceBytes;) {
    const count = await connection.read(buffer).catch(resetIsEnd);
    if (count === null) break;
    total += count;
    if (text.length < TEXT_BYTES_MAX) {
      text += decoder.decode(buffer.subarray(0, count), { stream: true });
    }
  }
  return text;
}

/** A server that closes with bytes of ours unread resets the connection. */
function resetIsEnd(cause: unknown): null {
  if (cause instanceof Deno.errors.ConnectionReset) return null;
  throw cause;
}
