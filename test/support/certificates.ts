/** Makes short-lived certificates with openssl: self-signed ones, and those of a private authority. */
import { readFileSync, writeFileSync } from "node:fs";
import { isIP } from "node:net";
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

export interface Authority {
  /** Its own certificate. */
  ca: string;
  /** A certificate and its key for a name of a host, an address or a user. */
  issue(name: string): { cert: string; key: string };
}

/** A private authority, whose certificates nobody trusts who is not given `ca`; it writes what it makes into the folder. */
export function makeAuthority(folder: string): Authority {
  const run = (words: string[]) => {
    const { exitCode, stderr } = Bun.spawnSync(["openssl", ...words], {
      cwd: folder,
      stdout: "ignore",
      stderr: "pipe",
    });
    if (exitCode !== 0) throw new Error(`openssl could not make a certificate: ${stderr}`);
  };
  const newKey = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
  const read = (file: string) => readFileSync(join(folder, file), "utf8");
  run(["req", "-x509", ...newKey, "-days", "2", "-subj", "/CN=authority", "-keyout", "ca.key", "-out", "ca.pem"]);
  return {
    ca: read("ca.pem"),
    issue(name) {
      run(["req", ...newKey, "-subj", `/CN=${name}`, "-keyout", "own.key", "-out", "own.csr"]);
      writeFileSync(join(folder, "own.ext"), `subjectAltName=${isIP(name) ? "IP" : "DNS"}:${name}`);
      const signed = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "own.ext"];
      run(["x509", "-req", "-in", "own.csr", ...signed, "-out", "own.pem"]);
      return { cert: read("own.pem"), key: read("own.key") };
    },
  };
}
