/** Makes short-lived self-signed certificates with openssl. */
import { join } from "node:path";

/** Writes `cert.pem` and `key.pem` into the folder, in place of former ones. @returns the certificate's name */
export function makeCertificate(folder: string, name: string): string {
  const words = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
  const files = ["-keyout", join(folder, "key.pem"), "-out", join(folder, "cert.pem")];
  const { exitCode, stderr } = Bun.spawnSync(["openssl", ...words, "-subj", `/CN=${name}`, ...files], {
    stdout: "ignore",
    stderr: "pipe",
  });
  if (exitCode !== 0) throw new Error(`openssl could not make a certificate: ${stderr}`);
  return name;
}
