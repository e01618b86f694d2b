/** Composes the storage in one SQLite file, for a node that is alone: the ports on the main thread, the SQL in one worker, and what is small beside it. */
import { realTimers } from "../../ground/timers.ts";
import { Epochs } from "../epochs.ts";
import type { NewEvent, Storage } from "../ports.ts";
import { createWriteProof, unwatched, type WriteWatch } from "../write-proof.ts";
import { Cleaning } from "./cleaning.ts";
import { DirectoryWatch } from "./directory-watch.ts";
import type { Durability } from "./engine.ts";
import { FileHold } from "./file-hold.ts";
import { SmallAppends } from "./small-appends.ts";
import { SmallReads } from "./small-reads.ts";
import { startThread } from "./thread.ts";
import { WorkerCalls } from "./worker-calls.ts";
import {
  createConversationStore,
  createCursorStore,
  createDirectory,
  createErasureStore,
  createEventLog,
  createOverviewStore,
  createPushStore,
  createReceiptStore,
  createStatusStore,
  type WorkerCaller,
} from "./worker-stores.ts";

export interface SqliteStorageOptions {
  /** A file, whose folder is made where it is missing, or `:memory:`. */
  path: string;
  /** `process` (default): what is acknowledged survives kill -9. `power`: a power cut too, at a sync for each commit. */
  durability?: Durability;
  /** Milliseconds since 1970. */
  now?: () => number;
  /** Whether others may use the file at the same time, as nodes of a cluster that hear of each other may. Default false. */
  isShared?: boolean;
  /** A call that is not answered by then rejects with `Unavailable`; default 5,000. */
  callTimeoutMs?: number;
  /** How long a write waits for another process's lock; default 2,000. */
  busyTimeoutMs?: number;
  /** Calls that may wait for the worker at once; default 65,536. */
  callsMax?: number;
  /** How often the file is looked at for changes that other processes made to the directory; default 250. */
  watchIntervalMs?: number;
  /** Told of what a directory listener throws. */
  onListenerError?: (error: unknown) => void;
  /** Told whether writes are taken. */
  writes?: WriteWatch;
  /** Told at the start of each thing that is missing and that nothing fails for, in a sentence that says what puts it back. */
  onNotice?: (sentence: string) => void;
  /** Told of a folder that others of the machine may look into. */
  onOpenFolder?: (folder: string) => void;
}

/** Builds the storage; nothing is opened before `start`, which rejects while another service has the file. */
export function createSqliteStorage({
  path,
  durability = "process",
  now = Date.now,
  isShared = false,
  callTimeoutMs = 5_000,
  busyTimeoutMs = 2_000,
  callsMax = 65_536,
  watchIntervalMs = 250,
  onListenerError = () => {},
  writes = unwatched,
  onNotice = () => {},
  onOpenFolder = () => {},
}: SqliteStorageOptions): Storage {
  const calls = new WorkerCalls({
    engine: { path, durability, busyTimeoutMs, holdsReserve: !isShared },
    spawn: startThread,
    callsMax,
    callTimeoutMs,
    onAnswers: () => reads.refresh(),
    onDamage: (error) => expectRefusal(error),
    onTrouble() {
      for (const each of [reads, appends]) each.rest();
    },
  });
  const reads = new SmallReads({ path, now });
  const appends = createAppends(calls, { path, durability, now, onAppended: () => reads.refresh() });
  const caller = createCaller(calls, reads);
  const watch = new DirectoryWatch({
    look: (after) => caller.call("directoryChanges", after),
    intervalMs: watchIntervalMs,
    onListenerError,
  });
  const { append, proveWrites, hasRefused, expectRefusal } = createWriteProof({
    append: (events) => appends.append(events),
    write: (bytes) => calls.call("proveWrites", bytes),
    writes,
  });
  const cleaning = createCleaning(calls);
  const epochs = new Epochs();
  const hold = new FileHold({ path, isShared, busyTimeoutMs, onOpenFolder });
  return {
    log: {
      ...createLogWithEpochs({ caller, now }, isShared ? async () => epochs.replace(await calls.call("epochs")) : null),
      epochs,
      append: (events) => cleaning.after(append(events), events),
    },
    receipts: createReceiptStore(caller, now),
    overviews: createOverviewStore(caller),
    cursors: createCursorStore(caller, now),
    statuses: createStatusStore(caller),
    push: createPushStore(caller, now),
    directory: createDirectory({ calls: caller, watch, now }),
    conversations: createConversationStore(caller),
    erasures: createErasureStore(caller, { now, onFinished: () => cleaning.note() }),
    async start() {
      const isFirst = hold.take();
      // The worker does one after the other, and nobody waits in between.
      const [, [logPages, known, missing]] = await Promise.all([
        calls.start(),
        askFirst(calls, { isFirst, now: now() }),
        watch.look(),
      ]);
      reads.start();
      appends.start(logPages);
      epochs.replace(known);
      for (const sentence of missing) onNotice(sentence);
      cleaning.start();
    },
    installation: () => calls.call("installation"),
    // Reads are answered by the same worker, where they are not answered here.
    prove: proveWrites,
    hasRefused,
    async stop() {
      watch.stop();
      cleaning.stop();
      for (const each of [reads, appends]) each.stop();
      await calls.stop();
      hold.release();
    },
  };
}

/** Asks at once what a start wants to know; it is done in this order. */
function askFirst(calls: WorkerCalls, { isFirst, now }: { isFirst: boolean; now: number }) {
  return Promise.all([
    calls.call("logPages"),
    // While nobody runs the file may have been put back to what it was, or another one in its place.
    isFirst ? calls.call("beginEpoch", now) : calls.call("epochs"),
    calls.call("missingTriggers"),
    isFirst ? calls.call("releaseErasures") : null,
  ]);
}

/** @param readEpochs null: the file is what it was for as long as it is held by this process alone */
function createLogWithEpochs(
  { caller, now }: { caller: WorkerCaller; now: () => number },
  readEpochs: (() => Promise<void>) | null,
) {
  const log = createEventLog(caller, now);
  return {
    ...log,
    note() {},
    async movedSince(position: number, limit: number) {
      await readEpochs?.();
      return log.movedSince(position, limit);
    },
  };
}

function createAppends(
  calls: WorkerCalls,
  options: { path: string; now: () => number; durability: Durability; onAppended: () => void },
): SmallAppends {
  return new SmallAppends({
    ...options,
    isAllowed: options.durability === "process",
    appendByWorker: (events: NewEvent[]) => calls.call("append", events),
    moveByWorker: () => calls.call("moveLog"),
  });
}

/** Answers in the loop what may be answered there. */
function createCaller(calls: WorkerCalls, reads: SmallReads): WorkerCaller {
  const here: WorkerCaller["here"] = (operation, ...values) => reads.answer(operation, values);
  const ask: WorkerCaller["ask"] = (operation, ...values) => {
    const answer = here(operation, ...values);
    return answer === undefined ? calls.call(operation, ...values) : answer.value;
  };
  return { here, ask, call: async (operation, ...values) => ask(operation, ...values) };
}

function createCleaning(calls: WorkerCalls): Cleaning {
  return new Cleaning({
    owed: () => calls.call("uncleaned"),
    clean: (from) => calls.call("clean", from),
    done: (deletions) => calls.call("cleaned", deletions),
    timers: realTimers,
  });
}
