/** Tells of a Redis that throws away what nodes share once its memory is used up. */
import type { Logger } from "../../telemetry/logger.ts";
import type { Commands } from "./commands.ts";

/** Looks each time that Redis is there (again); a policy is told of once. */
export function watchEviction(commands: Commands, logger: Pick<Logger, "warn">): void {
  let told = "noeviction";
  const look = async () => {
    const text = String(await commands.call("info", "memory"));
    const policy = /^maxmemory_policy:(\S+)/m.exec(text)?.[1] ?? told;
    if (policy !== told && policy !== "noeviction")
      logger.warn(
        { setting: "cluster.url", policy },
        "Redis may throw away who is here: its maxmemory-policy should be noeviction",
      );
    told = policy;
  };
  // A user that may not ask is not told.
  commands.onReady(() => void look().catch(() => {}));
}
