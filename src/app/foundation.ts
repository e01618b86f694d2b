/** Opens what everything else stands on: the storage, the cluster, the directory, and the order of questions to them. */
import { createDirectoryView } from "../directory/directory.ts";
import { createVisibleAmong } from "../directory/visibility.ts";
import { beginStorage, createCluster } from "../engines.ts";
import { FairQueue } from "../storage/fair-queue.ts";
import type { OtlpOptions } from "../telemetry/otlp.ts";
import type { Tracing } from "../telemetry/tracing.ts";
import type { Area } from "./area.ts";
import type { Base } from "./base.ts";

export type Foundation = Awaited<ReturnType<typeof openFoundation>>["parts"];

/** Made while the storage opens, which its start waits for. */
export async function openFoundation({ config, logger, counts, version, now, newId, ...given }: Base) {
  const { storage, opened } = given.storage ?? (await beginStorage(config, { now, logger }));
  const nodeId = config.cluster.node_id ?? newId();
  const cluster = await createCluster(config, { storage, opened, now, version, nodeId, counts, logger });
  const { mode, cache_ttl: cacheTtlMs, cache_size: cacheSize } = config.directory;
  const directory = createDirectoryView({
    directory: storage.directory,
    mode,
    cacheTtlMs,
    cacheSize,
    receiptsMembersMax: config.messages.receipts_max_members,
    now,
  });
  const visibleAmong = createVisibleAmong({ directory, policy: config.presence.visible_to });
  const questions = new FairQueue({ perUser: config.storage.questions_per_user });
  const tracing = await openTracing(config.traces, { version, nodeId, logger });
  const parts = { tracing, storage, cluster, directory, visibleAmong, questions };
  return {
    parts,
    async start() {
      await opened;
      await cluster.start();
    },
    async stop() {
      const traced = tracing?.stop();
      directory.stop();
      await cluster.stop();
      await storage.stop();
      await traced;
    },
  } satisfies Area;
}

/** Loads what sends traces where they are on; null where not. */
async function openTracing(
  { endpoint, headers, sample_ratio: sampleRatio }: Base["config"]["traces"],
  about: Pick<OtlpOptions, "version" | "nodeId" | "logger">,
): Promise<Tracing | null> {
  if (endpoint === null) return null;
  const { OtlpTracing } = await import("../telemetry/otlp.ts");
  return new OtlpTracing({ endpoint, headers, sampleRatio, ...about });
}
