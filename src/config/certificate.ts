/** Reads the certificate and its key, and says which of the two files would not work. */
import { createPrivateKey, X509Certificate } from "node:crypto";
import { resolve } from "node:path";
import type { Config } from "./schema.ts";

type Files = NonNullable<Config["server"]["tls"]>;

export interface CertificateFault {
  file: keyof Files;
  /** Expectation of the file, as a fault of the configuration says it. */
  expected: string;
}

/** Both texts as they are on the disk, and all that is wrong with them; where `faults` is empty they can be served. */
export async function readCertificate(
  files: Files,
  { cwd }: { cwd: string },
): Promise<{ cert: string; key: string; faults: CertificateFault[] }> {
  const faults: CertificateFault[] = [];
  const read = async (file: keyof Files) => {
    try {
      return await Bun.file(resolve(cwd, files[file])).text();
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code ?? String(error);
      const expected = code === "ENOENT" ? "must be a file that is there" : `must be a file that can be read (${code})`;
      faults.push({ file, expected });
      return "";
    }
  };
  const [cert, key] = [await read("cert_file"), await read("key_file")];
  if (faults.length === 0) faults.push(...(await pairFaults({ cert, key }, "server.tls")));
  return { cert, key, faults };
}

/** Finds what is wrong with a certificate and its key. @param section the settings they are named in: `server.tls` */
export async function pairFaults(
  { cert, key }: { cert: string; key: string },
  section: string,
): Promise<CertificateFault[]> {
  const certificate = attempt(() => new X509Certificate(cert));
  const privateKey = attempt(() => createPrivateKey(key));
  const faults: CertificateFault[] = [];
  if (certificate === null) faults.push({ file: "cert_file", expected: "must be a PEM file with a certificate" });
  if (privateKey === null)
    faults.push({ file: "key_file", expected: "must be a PEM file with a private key, without a passphrase" });
  if (certificate === null || privateKey === null) return faults;
  if (!certificate.checkPrivateKey(privateKey))
    return [{ file: "key_file", expected: `must be the key of the certificate in ${section}.cert_file` }];
  const { createSecureContext } = await import("node:tls");
  // Only the first certificate has been looked at so far; the others lead from it to an authority.
  if (attempt(() => createSecureContext({ cert, key })) === null)
    return [{ file: "cert_file", expected: "must have whole certificates only, also behind the first" }];
  return [];
}

function attempt<Result>(work: () => Result): Result | null {
  try {
    return work();
  } catch {
    return null;
  }
}
