/** Joins one side's keys: the shared secret or the public keys of a file, and for users' tokens a key server. */
import type { JWSHeaderParameters } from "jose";
import { type Algorithm, bytesOfSecret, importPublicKeys, keyFault } from "./fixed-keys.ts";
import type { RemoteKeys } from "./remote-keys.ts";

export interface KeySourceOptions {
  algorithms: readonly Algorithm[];
  secret: { path: string; value: string | null };
  publicKeys: { path: string; file: string | null };
  remote: RemoteKeys | null;
  readFile: (path: string) => Promise<string>;
}

export interface KeySource {
  /** Whether tokens of this algorithm are this side's at all. */
  takes(algorithm: string | undefined): algorithm is Algorithm;
  /**
   * Public keys by the algorithm that a key was given for: none is ever tried as a secret [AUTH2].
   * The key server is asked only where the configured keys did not do.
   */
  candidates(header: JWSHeaderParameters): AsyncIterable<CryptoKey>;
  /** For HS256, and nothing else; null: there is none. */
  readonly secret: Uint8Array | null;
  /** Has the key server's set brought up to date where that is due, so that a withdrawn key ends. Never rejects. */
  bringUpToDate(): Promise<void>;
  /** Changes whenever the keys do. */
  readonly revision: number;
  /** @throws ConfigError where the settings can never work */
  start(): Promise<void>;
  /** Reads the file and the key server again. Rejects where that fails; the keys that were there stay. */
  reload(): Promise<void>;
  stop(): void;
}

export function createKeySource({ algorithms, secret, publicKeys, remote, readFile }: KeySourceOptions): KeySource {
  let shared: Uint8Array | null = null;
  let read = new Map<Algorithm, CryptoKey[]>();
  let readings = 0;

  async function readPublicKeys(): Promise<void> {
    const { path, file } = publicKeys;
    if (file === null || algorithms.every((it) => it === "HS256")) return;
    const pem = await readFile(file).catch(() => {
      throw keyFault(path, "cannot be read", file);
    });
    read = await importPublicKeys(pem, { algorithms, path });
    readings++;
  }

  return {
    takes: (algorithm): algorithm is Algorithm => algorithms.some((it) => it === algorithm),
    get secret() {
      return shared;
    },
    async *candidates(header) {
      yield* read.get(header.alg as Algorithm) ?? [];
      if (remote !== null) yield* await remote.candidates(header);
    },
    async bringUpToDate() {
      await remote?.bringUpToDate();
    },
    get revision() {
      return readings + (remote?.revision ?? 0);
    },
    async start() {
      if (secret.value !== null) shared = bytesOfSecret(secret.value, secret.path);
      await readPublicKeys();
      // The fault has been told to onFault.
      await remote?.refresh().catch(() => {});
    },
    async reload() {
      await readPublicKeys();
      await remote?.refresh();
    },
    stop: () => remote?.stop(),
  };
}
