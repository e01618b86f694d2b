/** Reads the keys that the configuration names itself: the shared secret and the public keys of a PEM file. */
import { importSPKI } from "jose";
import { secretBytesMin } from "../config/checks.ts";
import { ConfigError } from "../config/faults.ts";

export type Algorithm = "HS256" | "RS256" | "ES256" | "EdDSA";

export const asymmetricAlgorithms = ["RS256", "ES256", "EdDSA"] as const satisfies readonly Algorithm[];

const modulusBitsMin = 2048;
const publicKeysMax = 16;
const publicKeyBlock = /-----BEGIN PUBLIC KEY-----[^-]+-----END PUBLIC KEY-----/g;

/** A key setting that can never work. The setting's value is a path or nothing, never a key. */
export function keyFault(path: string, expected: string, value: string | null = null): ConfigError {
  return new ConfigError([{ path, value, expected, origin: "found while reading the keys" }]);
}

/**
 * The HS256 key of `auth.secret`, or of the setting at `path`.
 * @throws ConfigError where it has fewer than 32 bytes
 */
export function bytesOfSecret(secret: string, path = "auth.secret"): Uint8Array {
  const bytes = new TextEncoder().encode(secret);
  if (bytes.byteLength < secretBytesMin) throw keyFault(path, `must have at least ${secretBytesMin} bytes for HS256`);
  return bytes;
}

/**
 * The public keys (SPKI) of a PEM text, under the algorithm each is for. There may be several, so that keys can rotate.
 * @throws ConfigError where a key is private, weak, or for none of the algorithms
 */
export async function importPublicKeys(
  pem: string,
  { algorithms, path }: { algorithms: readonly Algorithm[]; path: string },
): Promise<Map<Algorithm, CryptoKey[]>> {
  if (/-----BEGIN [A-Z ]*PRIVATE KEY-----/.test(pem)) throw keyFault(path, "must not hold a private key");
  const blocks = pem.match(publicKeyBlock) ?? [];
  if (blocks.length === 0 || blocks.length > publicKeysMax) {
    throw keyFault(path, `must hold 1 to ${publicKeysMax} blocks that start with BEGIN PUBLIC KEY`);
  }
  const keys = new Map<Algorithm, CryptoKey[]>();
  for (const block of blocks) {
    const fitting = await importFor(block, algorithms);
    if (fitting === null) throw keyFault(path, `must hold keys for ${algorithms.join(", ")} only`);
    const { algorithm, key } = fitting;
    if ("modulusLength" in key.algorithm && Number(key.algorithm.modulusLength) < modulusBitsMin) {
      throw keyFault(path, `must hold RSA keys of at least ${modulusBitsMin} bits`);
    }
    keys.set(algorithm, [...(keys.get(algorithm) ?? []), key]);
  }
  return keys;
}

async function importFor(block: string, algorithms: readonly Algorithm[]) {
  for (const algorithm of algorithms) {
    if (algorithm === "HS256") continue;
    const key = await importSPKI(block, algorithm).catch(() => null);
    if (key !== null) return { algorithm, key };
  }
  return null;
}
