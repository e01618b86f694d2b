/** Nodes as far as they append: a publisher and a sequencer over storage of its own each, in this process, and senders that wait for each acknowledgement. */
import { Publisher } from "../../src/broadcast/publisher.ts";
import { Sequencer } from "../../src/broadcast/sequencer.ts";
import { createLocalBus } from "../../src/cluster/local/bus.ts";
import { Epochs } from "../../src/storage/epochs.ts";
import type { EventLog } from "../../src/storage/ports.ts";
import { type ConnectionEvents, openConnection } from "../../src/storage/postgres/connection.ts";
import { Pool } from "../../src/storage/postgres/pool.ts";
import { createPostgresStorage } from "../../src/storage/postgres/storage.ts";
import { Counts } from "../../src/telemetry/counts.ts";
import { createLogSink } from "../../src/telemetry/logger.ts";
import { type FirstAppended, firstAppendParameters, firstAppendStatement } from "../../test/support/first-release.ts";
import { newMessage } from "./bare-append.ts";
import { quantile } from "./statistics.ts";

/** How events are appended: as this build does it, or by the functions of the first release. */
export type Design = "0.1" | "now";

export interface PublishersOptions {
  design: Design;
  url: string;
  publishers: number;
  /** Senders of each publisher. */
  senders: number;
  /** Names the conversation that the next message goes to. */
  nextConversation: () => string;
}

export interface Published {
  acked: number;
  batches: number;
  perSecond: number;
  p50Ms: number;
  p99Ms: number;
}

export interface Publishers {
  /** The first so many publishers work, for so long. */
  run(round: { publishers: number; forMs: number }): Promise<Published>;
  stop(): Promise<void>;
}

interface OpenLog {
  log: EventLog;
  stop(): Promise<void>;
}

const { logger } = createLogSink({ level: "silent", format: "json" });
const queryTimeoutMs = 60_000;

export async function openPublishers(options: PublishersOptions): Promise<Publishers> {
  const { design, url, nextConversation } = options;
  const counts = new Counts();
  let batches = 0;
  counts.onAppended(() => batches++);
  const nodes = await Promise.all(
    Array.from({ length: options.publishers }, async () => {
      const opened = design === "now" ? await openLog(url) : openFirstLog(url);
      const { log } = opened;
      const sequencer = new Sequencer({ log, publish() {}, hasSubscribers: () => false, logger });
      if (design === "now") await sequencer.start();
      const publisher = new Publisher({ log, sequencer, bus: createLocalBus(), counts, logger, waitingMax: 100_000 });
      return { publisher, sequencer, opened };
    }),
  );

  async function send(
    publisher: Publisher,
    sender: string,
    { until, latencies }: { until: number; latencies: number[] },
  ) {
    for (let now = performance.now(); now < until; ) {
      await publisher.appendAll([newMessage({ sender, conversation: nextConversation() })]);
      const acknowledgedAt = performance.now();
      latencies.push(acknowledgedAt - now);
      now = acknowledgedAt;
    }
  }

  return {
    async run({ publishers, forMs }) {
      const latencies: number[] = [];
      const batchesBefore = batches;
      const startedAt = performance.now();
      const until = startedAt + forMs;
      await Promise.all(
        nodes
          .slice(0, publishers)
          .flatMap(({ publisher }, node) =>
            Array.from({ length: options.senders }, (_, index) =>
              send(publisher, `user-${node}-${index}`, { until, latencies }),
            ),
          ),
      );
      const perSecond = (latencies.length * 1_000) / (performance.now() - startedAt);
      return {
        acked: latencies.length,
        batches: batches - batchesBefore,
        perSecond,
        p50Ms: quantile(latencies, 0.5),
        p99Ms: quantile(latencies, 0.99),
      };
    },
    async stop() {
      for (const { sequencer } of nodes) sequencer.stop();
      await Promise.all(nodes.map(({ opened }) => opened.stop()));
    },
  };
}

async function openLog(url: string): Promise<OpenLog> {
  const storage = createPostgresStorage({ url, queryTimeoutMs });
  await storage.start();
  return { log: storage.log, stop: () => storage.stop() };
}

/** Appends alone: nobody repairs, and one epoch is enough. */
function openFirstLog(url: string): OpenLog {
  const open = (events: ConnectionEvents) =>
    openConnection({ url, connectTimeoutMs: queryTimeoutMs, statementTimeoutMs: queryTimeoutMs, ...events });
  const pool = new Pool({ open, size: 1, queryTimeoutMs, waitingMax: 1_000 });
  pool.start();
  const statement = firstAppendStatement("ws");
  const epochs = new Epochs();
  epochs.replace([{ id: "00000000", no: 1, beganAt: 0, broken: false, line: "", createdAt: 0 }]);
  const log: Pick<EventLog, "append" | "epochs"> = {
    epochs,
    async append(events) {
      const rows = await pool.query<FirstAppended>(statement, firstAppendParameters(events));
      const appended = rows.map(({ n, seq, position, duplicate }) => {
        const { topic, id, createdAt } = events[n - 1]!;
        return { topic, seq, position, id, createdAt, duplicate };
      });
      return { previousPosition: rows[0]!.previousPosition, appended };
    },
  };
  return { log: log as unknown as EventLog, stop: () => pool.stop() };
}
