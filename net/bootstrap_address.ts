import { lookup } from "node:dns/promises";
import { AppError } from "../core/errors.ts";
import { parseMultiaddr } from "../core/multiaddr.ts";
import { LIBP2P_PORT } from "../core/ports.ts";

const HINT = `name the libp2p port of a node, such as 192.168.1.20:${LIBP2P_PORT}; ` +
  "exo serve says where it listens";

const MULTIADDR_NEEDED = "a multiaddr with an address and a TCP port needed";
const HOST_NEEDED = "host:port or a multiaddr needed";

/** Addresses of one name that are tried. */
const ADDRESSES_MAX = 8;

/** `host`, `host:port` or `[ip6]:port`. */
const HOST_PORT = /^(?:\[(?<ip6>[^\]]+)\]|(?<host>[^:[\]/\s]+))(?::(?<port>\d{1,5}))?$/;

/** A name in DNS; digits and dots alone are an address that is none. */
const HOST_NAME = /^(?![\d.]+$)[a-z0-9_](?:[a-z0-9_.-]{0,251}[a-z0-9])?\.?$/i;

/**
 * Where another node is, as a multiaddr; a host without a port has the usual one.
 * @throws {AppError} `usage` for what is neither `host:port` nor a multiaddr that leads to a port.
 */
export function bootstrapMultiaddr(text: string): string {
  if (!text.startsWith("/")) return checked(text, fromHostPort(text), HOST_NEEDED);
  return checked(text, text, MULTIADDR_NEEDED);
}

/**
 * The IP addresses behind a bootstrap address, without its node's id: what is dialled becomes an
 * edge, and is the same edge whoever tells of it. None when the name leads nowhere.
 */
export async function bootstrapAddresses(address: string): Promise<string[]> {
  const { addressType, host = "", port } = parseMultiaddr(address) ?? {};
  if (addressType === "ip4" || addressType === "ip6") {
    return [`/${addressType}/${host}/tcp/${port}`];
  }
  const family = addressType === "dns4" ? 4 : addressType === "dns6" ? 6 : 0;
  const found = await lookup(host, { all: true, family }).catch(() => []);
  return found.slice(0, ADDRESSES_MAX).map(({ address: ip, family }) =>
    `/ip${family}/${ip}/tcp/${port}`
  );
}

function fromHostPort(text: string): string | undefined {
  const { ip6, host = "", port = LIBP2P_PORT } = HOST_PORT.exec(text)?.groups ?? {};
  if (ip6 !== undefined) return `/ip6/${ip6}/tcp/${port}`;
  const ip4 = `/ip4/${host}/tcp/${port}`;
  if (parseMultiaddr(ip4)) return ip4;
  return HOST_NAME.test(host) ? `/dns/${host}/tcp/${port}` : undefined;
}

function checked(text: string, address: string | undefined, needed: string): string {
  if (address !== undefined && (parseMultiaddr(address)?.port ?? 0) > 0) return address;
  const message = `Cannot look for nodes at "${text}": ${needed}`;
  throw new AppError("usage", message, { hint: HINT });
}
