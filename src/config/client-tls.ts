/** Reads the files by which connections to an engine are encrypted, and says which of them would not work. */
import { X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { pairFaults } from "./certificate.ts";
import type { Config } from "./schema.ts";

export type ClientTlsFiles = NonNullable<Config["storage"]["tls"]>;

/** As `node:tls` takes them; what is left out is the system's (`ca`) or nobody's. */
export interface ClientTls {
  ca?: string;
  cert?: string;
  key?: string;
}

export interface ClientTlsFault {
  file: keyof ClientTlsFiles;
  /** Expectation of the file, as a fault of the configuration says it. */
  expected: string;
}

const fields = { ca_file: "ca", cert_file: "cert", key_file: "key" } as const;
const names = Object.keys(fields) as (keyof ClientTlsFiles)[];

/** The texts as they are on the disk at this moment, so that files may be replaced under a running service. @throws Error */
export function readClientTls(files: ClientTlsFiles, { cwd = "." }: { cwd?: string } = {}): ClientTls {
  const texts: ClientTls = {};
  for (const name of names) {
    const file = files[name];
    if (file !== null) texts[fields[name]] = readFileSync(resolve(cwd, file), "utf8");
  }
  return texts;
}

/** All that is wrong with them. @param section the settings they are named in: `storage.tls` */
export async function clientTlsFaults(
  files: ClientTlsFiles,
  { cwd, section }: { cwd: string; section: string },
): Promise<ClientTlsFault[]> {
  const alone = aloneOf(files);
  if (alone !== null) return [{ file: alone.given, expected: `needs ${section}.${alone.missing} beside it` }];
  const faults: ClientTlsFault[] = [];
  const read = (file: keyof ClientTlsFiles): string | null => {
    if (files[file] === null) return null;
    try {
      return readFileSync(resolve(cwd, files[file]), "utf8");
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      const expected = code === "ENOENT" ? "must be a file that is there" : `must be a file that can be read (${code})`;
      faults.push({ file, expected });
      return null;
    }
  };
  const [ca, cert, key] = [read("ca_file"), read("cert_file"), read("key_file")];
  if (ca !== null && !isChain(ca)) faults.push({ file: "ca_file", expected: "must be a PEM file with certificates" });
  if (cert !== null && key !== null) faults.push(...(await pairFaults({ cert, key }, section)));
  return faults;
}

function aloneOf({ cert_file, key_file }: ClientTlsFiles) {
  if ((cert_file === null) === (key_file === null)) return null;
  return cert_file === null
    ? ({ given: "key_file", missing: "cert_file" } as const)
    : ({ given: "cert_file", missing: "key_file" } as const);
}

const pem = /-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/g;

function isChain(text: string): boolean {
  const found = text.match(pem) ?? [];
  try {
    for (const each of found) new X509Certificate(each);
  } catch {
    return false;
  }
  return found.length > 0;
}
