// The first import: what the second is made of asks for it.
import "reflect-metadata";
import {
  PemConverter,
  SubjectAlternativeNameExtension,
  X509CertificateGenerator,
} from "@peculiar/x509";
import { BULK_SERVER_NAME } from "./bulk_messages.ts";

const ALGORITHM = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };

/**
 * Peers trust this very certificate, for as long as the node runs, so dates have nothing to add;
 * these are true whatever a machine believes the date to be.
 */
const [NOT_BEFORE, NOT_AFTER] = ["2000-01-01T00:00:00Z", "2099-12-31T23:59:59Z"];

/** A certificate that a node signs itself, and the key to it; both as PEM. */
export interface BulkCertificate {
  readonly certificatePem: string;
  readonly keyPem: string;
}

/** A new key and a certificate of it. */
export async function newCertificate(): Promise<BulkCertificate> {
  const keys = await crypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"]);
  const certificate = await X509CertificateGenerator.createSelfSigned({
    name: `CN=${BULK_SERVER_NAME}`,
    notBefore: new Date(NOT_BEFORE),
    notAfter: new Date(NOT_AFTER),
    keys,
    signingAlgorithm: ALGORITHM,
    extensions: [new SubjectAlternativeNameExtension([{ type: "dns", value: BULK_SERVER_NAME }])],
  });
  const key = await crypto.subtle.exportKey("pkcs8", keys.privateKey);
  return {
    certificatePem: certificate.toString("pem"),
    keyPem: PemConverter.encode(key, "PRIVATE KEY"),
  };
}
