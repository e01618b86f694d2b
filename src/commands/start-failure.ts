/** Tells storage and cluster that keep the service from starting by the setting that has named them. */
import { StartError } from "../config/faults.ts";
import type { Config } from "../config/schema.ts";
import { maskUrl } from "../config/text.ts";

/** @returns a `StartError` where an engine is away or refuses; other errors as they are */
export function startFailureOf(error: unknown, { storage, cluster }: Pick<Config, "storage" | "cluster">): unknown {
  if (!(error instanceof Error)) return error;
  const told = (setting: string, url: string) =>
    // Some say themselves which setting they are about.
    error.message.startsWith(`${setting}: `)
      ? new StartError(setting, error.message.slice(setting.length + 2), { cause: error })
      : new StartError(setting, `${maskUrl(url)} cannot be used: ${error.message}`, { cause: error });
  // By name: only the app knows which engines there are.
  switch (error.name) {
    case "StorageUnavailable":
      return told("storage.url", storage.url);
    case "RedisUnavailable":
      return told("cluster.url", cluster.url ?? "null");
    default:
      return error;
  }
}
