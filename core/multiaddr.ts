/** The parts of a multiaddr that lead straight to a TCP port. */
export interface Multiaddr {
  readonly addressType: "ip4" | "ip6" | "dns" | "dns4" | "dns6";
  /** An IP address, or a name for the DNS types. */
  readonly host: string;
  readonly port?: number;
}

const FORM =
  /^\/(?<type>ip4|ip6|dns|dns4|dns6)\/(?<host>[^/]+)(?:\/tcp\/(?<port>\d{1,5}))?(?:\/p2p\/[^/]+)?$/;
const IP4 = /^(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)(?:\.(?=\d)|$)){4}$/;
/** Without zone ids: they mean nothing on another machine. */
const IP6 = /^(?=.*:.*:)[0-9a-f:.]{2,45}$/i;

const PORT_MAX = 65_535;

/** Reads `/ip4/10.0.0.1/tcp/52414` and its like; undefined for relays and for what is none. */
export function parseMultiaddr(text: string): Multiaddr | undefined {
  const { type, host = "", port } = FORM.exec(text)?.groups ?? {};
  const addressType = type as Multiaddr["addressType"] | undefined;
  if (addressType === undefined) return undefined;
  if (addressType === "ip4" && !IP4.test(host)) return undefined;
  if (addressType === "ip6" && !IP6.test(host)) return undefined;
  if (port === undefined) return { addressType, host };
  return Number(port) > PORT_MAX ? undefined : { addressType, host, port: Number(port) };
}

/** `ip:port`, an IPv6 address in brackets. */
export function hostPort(ip: string, port: number): string {
  return ip.includes(":") ? `[${ip}]:${port}` : `${ip}:${port}`;
}

/** What `hostPort` has put together. */
export function splitHostPort(address: string): { readonly ip: string; readonly port: number } {
  const at = address.lastIndexOf(":");
  return { ip: address.slice(0, at).replace(/^\[|\]$/g, ""), port: Number(address.slice(at + 1)) };
}
