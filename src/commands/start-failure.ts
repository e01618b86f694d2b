/** Tells storage and cluster that keep the service from starting by the setting that has named them. */
import { StartError } from "../config/faults.ts";
import type { Config } from "../config/schema.ts";
import { maskUrl } from "../config/text.ts";
import { type Part, Unavailable } from "../ground/unavailable.ts";

/** @returns a `StartError` where an engine is away or refuses; other errors as they are */
export function startFailureOf(error: unknown, config: Pick<Config, "storage" | "cluster" | "auth">): unknown {
  if (!(error instanceof Unavailable)) return error;
  const { setting, message } = error;
  if (setting !== undefined) return new StartError(setting, message, { cause: error });
  const { storage, cluster, auth } = config;
  const named: Record<Part, [setting: string, url: string | null]> = {
    storage: ["storage.url", storage.url],
    cluster: ["cluster.url", cluster.url],
    auth: ["auth.jwks_url", auth.jwks_url],
  };
  const [path, url] = named[error.part];
  return new StartError(path, `${maskUrl(url ?? "null")} cannot be used: ${message}`, { cause: error });
}
