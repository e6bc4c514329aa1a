/** Lists of strings as they cross the border: for each its byte count as u32 LE, then its UTF-8. */

/** Packs strings for C. */
export function packStrings(strings: readonly string[]): Uint8Array<ArrayBuffer> {
  const encoded = strings.map((text) => new TextEncoder().encode(text));
  const blob = new Uint8Array(encoded.reduce((sum, bytes) => sum + 4 + bytes.length, 0));
  const lengths = new DataView(blob.buffer);
  let at = 0;
  for (const bytes of encoded) {
    lengths.setUint32(at, bytes.length, true);
    blob.set(bytes, at + 4);
    at += 4 + bytes.length;
  }
  return blob;
}

/** Unpacks strings from C. */
export function unpackStrings(blob: Uint8Array): string[] {
  const lengths = new DataView(blob.buffer, blob.byteOffset, blob.byteLength);
  const strings: string[] = [];
  for (let at = 0; at < blob.length;) {
    const end = at + 4 + lengths.getUint32(at, true);
    strings.push(new TextDecoder().decode(blob.subarray(at + 4, end)));
    at = end;
  }
  return strings;
}

/** A string for C: UTF-8 ending in a zero byte. */
export function cString(text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(`${text}\0`);
}
