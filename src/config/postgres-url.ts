/** Reads off a PostgreSQL URL how the connection is encrypted, and refuses what would not be done as it says. */
import { nearest, nearestHint } from "./nearest.ts";

/** As PostgreSQL's own clients name them. `prefer` and `allow` are none: who stands between could choose for both sides. */
const sslModes = ["disable", "require", "verify-ca", "verify-full"] as const;
export type SslMode = (typeof sslModes)[number];

/** Options that our client passes over, or does otherwise than their name says. */
const instead: Record<string, string> = {
  ssl: "sslmode",
  sslrootcert: "storage.tls.ca_file",
  sslcert: "storage.tls.cert_file",
  sslkey: "storage.tls.key_file",
};

/** Options that may stand behind the `?`. Others are settings of the client, which are ours to choose, or slips. */
const parameters = ["sslmode", "application_name", "options", "target_session_attrs"] as const;

/** Of several hosts only the first: `URL` knows no more. Null where it is none. */
function readUrl(url: string): URL | null {
  try {
    const read = new URL(url.replace(/^([^/]*\/\/(?:[^/?#]*@)?[^/?#,]*),[^/?#]*/, "$1"));
    for (const part of [read.username, read.password, read.hostname, read.pathname]) decodeURIComponent(part);
    return read;
  } catch {
    return null;
  }
}

/** Without a word in the URL: everything is verified where there is `storage.tls`, and nothing encrypted where there is not. */
export function sslModeOf(url: string, { hasTls }: { hasTls: boolean }): SslMode {
  const given = readUrl(url)?.searchParams.get("sslmode") as SslMode | null | undefined;
  return given ?? (hasTls ? "verify-full" : "disable");
}

/** Finds what is expected of the URL; null where it can be done as it says. */
export function postgresUrlFault(url: string, { hasTls }: { hasTls: boolean }): string | null {
  const read = readUrl(url);
  if (read === null || read.hash !== "")
    return "must be postgres://user:password@host:port/database, with what is special in a password written as %40 for @, %23 for #, %25 for %";
  const query = read.searchParams;
  for (const [name, setting] of Object.entries(instead)) {
    if (query.has(name)) return `must not have ${name}: use ${setting}`;
  }
  const unknown = [...query.keys()].find((name) => !(parameters as readonly string[]).includes(name));
  if (unknown !== undefined) {
    // With an `@` it may be the rest of a password.
    const isShown = /^\w{1,40}$/.test(unknown) && !read.search.includes("@");
    const what = isShown ? `the parameter ${unknown}` : "such a parameter";
    const hint = isShown ? nearestHint(nearest(unknown, parameters)) : "";
    return `must not have ${what}: what may stand behind the ? is ${parameters.join(", ")}${hint}`;
  }
  const modes = query.getAll("sslmode");
  if (modes.length > 1 || modes.some((mode) => !(sslModes as readonly string[]).includes(mode)))
    return `must have at most one sslmode, of ${sslModes.join(", ")}`;
  // A service that follows the storage writes to it.
  const servers = query.getAll("target_session_attrs");
  if (servers.length > 1 || servers.some((it) => it !== "read-write" && it !== "primary"))
    return "must have at most one target_session_attrs, of read-write, primary";
  if (query.getAll("application_name").length > 1 || query.getAll("options").length > 1)
    return "must have each parameter once";
  return hasTls && modes[0] === "disable" ? "must not have sslmode=disable where storage.tls is set" : null;
}
