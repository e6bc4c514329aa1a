import { generateKeyPair, privateKeyFromProtobuf, privateKeyToProtobuf } from "@libp2p/crypto/keys";
import { peerIdFromPrivateKey } from "@libp2p/peer-id";
import { NodeId } from "../core/ids.ts";

/** A new Ed25519 private key, in libp2p's protobuf form. */
export async function newIdentity(): Promise<Uint8Array> {
  return privateKeyToProtobuf(await generateKeyPair("Ed25519"));
}

/**
 * The node that a private key names: its libp2p PeerId, so that what is proven on the wire is what
 * the state says.
 * @throws {Error} when `key` is no private key in libp2p's protobuf form.
 */
export function nodeIdOf(key: Uint8Array): NodeId {
  return NodeId.parse(peerIdFromPrivateKey(privateKeyFromProtobuf(key)).toString());
}
