/** Starts the internal listener beside the public one, where there is to be one; what it needs is loaded only then [END3]. */
import { isLoopback } from "../config/addresses.ts";
import type { Config } from "../config/schema.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { MetricsOptions } from "../telemetry/metrics.ts";
import { listenAt } from "./listening.ts";

export interface Operations {
  stop(): Promise<void>;
}

/** @throws StartError where the port is taken @returns null where `operations.listen` is not set */
export async function startOperations(
  { listen, token }: Config["operations"],
  { logger, ...measured }: MetricsOptions & { logger: Logger },
): Promise<Operations | null> {
  if (listen === null) return null;
  const [{ createMetrics }, { startListener }] = await Promise.all([
    import("../telemetry/metrics.ts"),
    import("../operations/listener.ts"),
  ]);
  const metrics = createMetrics(measured);
  const settings = { host: "operations.listen", port: "operations.listen" };
  const listener = listenAt({ ...listen, settings }, () =>
    startListener({
      listen,
      token,
      metrics,
      isLoopback,
      onFault: (error) => logger.error({ err: error }, "request to the internal listener failed"),
    }),
  );
  logger.info({ url: listener.url }, "metrics and console");
  return {
    async stop() {
      metrics.stop();
      await listener.stop();
    },
  };
}
