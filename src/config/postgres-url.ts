/** Reads off a PostgreSQL URL how the connection is encrypted, and refuses what would not be done as it says. */

/** As PostgreSQL's own clients name them. `prefer` and `allow` are none: who stands between could choose for both sides. */
export const sslModes = ["disable", "require", "verify-ca", "verify-full"] as const;
export type SslMode = (typeof sslModes)[number];

/** What our client passes over, or does otherwise than its name says. */
const instead: Record<string, string> = {
  ssl: "sslmode",
  sslrootcert: "storage.tls.ca_file",
  sslcert: "storage.tls.cert_file",
  sslkey: "storage.tls.key_file",
};

function queryOf(url: string): URLSearchParams {
  const start = url.indexOf("?");
  return new URLSearchParams(start === -1 ? "" : url.slice(start + 1));
}

/** Without a word in the URL: everything is verified where there is `storage.tls`, and nothing encrypted where there is not. */
export function sslModeOf(url: string, { hasTls }: { hasTls: boolean }): SslMode {
  const given = queryOf(url).get("sslmode") as SslMode | null;
  return given ?? (hasTls ? "verify-full" : "disable");
}

/** What is expected of the URL; null where it can be done as it says. */
export function sslFault(url: string, { hasTls }: { hasTls: boolean }): string | null {
  const query = queryOf(url);
  for (const [name, setting] of Object.entries(instead)) {
    if (query.has(name)) return `must not have ${name}: use ${setting}`;
  }
  const modes = query.getAll("sslmode");
  if (modes.length > 1 || modes.some((mode) => !(sslModes as readonly string[]).includes(mode)))
    return `must have at most one sslmode, of ${sslModes.join(", ")}`;
  return hasTls && modes[0] === "disable" ? "must not have sslmode=disable where storage.tls is set" : null;
}
