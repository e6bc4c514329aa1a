import { noise } from "@libp2p/noise";
import { yamux } from "@libp2p/yamux";
import { privateKeyFromProtobuf } from "@libp2p/crypto/keys";
import { type GossipSub, gossipsub } from "@libp2p/gossipsub";
import { type Identify, identify } from "@libp2p/identify";
import { type ComponentLogger, FaultTolerance, type Libp2p } from "@libp2p/interface";
import { preSharedKey } from "@libp2p/pnet";
import { tcp } from "@libp2p/tcp";
import { withJoinedWrites } from "@libp2p/deno-compat";
import { createLibp2p } from "libp2p";
import { AppError } from "../core/errors.ts";
import { PUBLISH_BYTES_MAX } from "./transport.ts";

/** Ports tried after the wanted one. */
const PORTS_TRIED = 64;

/** Connections at once: two and more to each node. */
const CONNECTIONS_MAX = 8_192;

/** Connections of one host in a second: on one machine there may be many nodes. */
const CONNECTIONS_PER_HOST_PER_SECOND = 256;

/** Connections that are being made by others at once. */
const INCOMING_PENDING_MAX = 256;

/** How long a dial may take, from the first packet to the link. */
const DIAL_TIMEOUT_MS = 3_000;

/** Bytes that wait for a slow reader of gossip before its stream is given up. */
const GOSSIP_BUFFER_BYTES_MAX = 16 * 1024 * 1024;

/** How often what gossip holds against a peer fades: each look wakes the process. */
const SCORE_DECAY_MS = 5_000;

/** Bytes of one stream that are under way, or wait for a slow reader here. */
const STREAM_WINDOW_BYTES_MAX = 4 * 1024 * 1024;

/** The libp2p node beneath a transport. */
export type Host = Libp2p<{ identify: Identify; pubsub: GossipSub }>;

/** How a libp2p node is made. */
export interface HostOptions {
  /** In libp2p's protobuf form. */
  readonly identityKey: Uint8Array;
  /** The first port to try; 0: any. */
  readonly port: number;
  /** 32 bytes that all nodes of a private network have. */
  readonly privateNetworkKey?: Uint8Array | undefined;
  readonly logger: ComponentLogger;
}

/**
 * Starts a libp2p node on the wanted port, or on the next that is free.
 * @throws {AppError} `conflict` when no port is free, `internal` when it cannot be started.
 */
export async function startHost(options: HostOptions): Promise<{ host: Host; port: number }> {
  for (let tried = 0; tried < PORTS_TRIED; tried++) {
    const port = freePort(options.port === 0 ? 0 : options.port + tried);
    if (port === undefined) continue;
    for (const listen of [`/ip6/::/tcp/${port}`, `/ip4/0.0.0.0/tcp/${port}`]) {
      const host = await makeHost(options, listen);
      await host.start();
      if (host.getMultiaddrs().length > 0) return { host, port };
      // A system without IPv6, or somebody was faster.
      await host.stop();
    }
  }
  const tried = `${PORTS_TRIED} ports from ${options.port} on are taken, one needed`;
  throw new AppError("conflict", `Cannot listen for other nodes: ${tried}`, {
    hint: "name a free port with --libp2p-port, or 0 for any",
  });
}

/** The port if it is free, any free one for 0. */
function freePort(port: number): number | undefined {
  if (port > 65_535) return undefined;
  try {
    using listener = Deno.listen({ hostname: "0.0.0.0", port });
    return listener.addr.port;
  } catch {
    return undefined;
  }
}

async function makeHost(options: HostOptions, listen: string): Promise<Host> {
  const { identityKey, privateNetworkKey, logger } = options;
  return await createLibp2p({
    start: false,
    logger,
    privateKey: privateKeyFromProtobuf(identityKey),
    // A socket for both IP versions, where there are both.
    addresses: { listen: [listen] },
    // Whether it listens is looked at afterwards.
    transportManager: { faultTolerance: FaultTolerance.NO_FATAL },
    transports: [withJoinedWrites(tcp())],
    connectionEncrypters: [noise()],
    // No more may come than a stream that is paused holds: else it is broken.
    streamMuxers: [yamux({
      streamOptions: {
        maxStreamWindowSize: STREAM_WINDOW_BYTES_MAX,
        maxReadBufferLength: STREAM_WINDOW_BYTES_MAX,
      },
    })],
    // Links ping by themselves, on a stream that is open already.
    connectionMonitor: { enabled: false },
    connectionManager: {
      maxConnections: CONNECTIONS_MAX,
      inboundConnectionThreshold: CONNECTIONS_PER_HOST_PER_SECOND,
      maxIncomingPendingConnections: INCOMING_PENDING_MAX,
      dialTimeout: DIAL_TIMEOUT_MS,
      inboundUpgradeTimeout: DIAL_TIMEOUT_MS,
    },
    ...(privateNetworkKey
      ? { connectionProtector: preSharedKey({ psk: pskOf(privateNetworkKey) }) }
      : {}),
    services: {
      identify: identify(),
      pubsub: gossipsub({
        // Whoever is alone publishes to nobody, which is no error.
        allowPublishToZeroTopicPeers: true,
        maxOutboundBufferSize: GOSSIP_BUFFER_BYTES_MAX,
        // With room for the envelope.
        maxInboundDataLength: 2 * PUBLISH_BYTES_MAX,
        // Nodes of one host have one address, and are no attack.
        scoreParams: { IPColocationFactorWeight: 0, decayInterval: SCORE_DECAY_MS },
      }),
    },
  });
}

/** A private network's key in the form of libp2p's files (specification "pnet", PSK v1). */
function pskOf(key: Uint8Array): Uint8Array {
  const text = `/key/swarm/psk/1.0.0/\n/base16/\n${key.toHex()}`;
  return new TextEncoder().encode(text);
}
