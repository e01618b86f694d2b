/** Composes the storage in PostgreSQL, for any number of nodes: everything lives in one schema, every statement has a deadline. */
import type { ClientTlsFiles } from "../../config/client-tls.ts";
import { Unavailable } from "../../ground/unavailable.ts";
import { conversationTopic } from "../../protocol/topic.ts";
import type { ReceiptStore, Storage } from "../ports.ts";
import { witnessed } from "../witnesses.ts";
import { createWriteProof, unwatched, type WriteWatch } from "../write-proof.ts";
import { type ConnectionEvents, openConnection } from "./connection.ts";
import { createConversationStore } from "./conversations.ts";
import { createCursorStore, createStatusStore } from "./cursors-statuses.ts";
import { createDirectory, type DirectoryNames } from "./directory.ts";
import { DirectoryWatch } from "./directory-watch.ts";
import { EpochLookout } from "./epochs.ts";
import { createErasureStore } from "./erasures.ts";
import { createEventLog } from "./event-log.ts";
import { inspect, missingRights } from "./inspection.ts";
import { readInstallation } from "./installation.ts";
import { createJoining } from "./joining.ts";
import { checkSchemaName, defaultSchema, readVersion, versionRefusal } from "./migrate.ts";
import { PostgresOutbox } from "./outbox.ts";
import { createOverviewStore } from "./overviews.ts";
import { Pool } from "./pool.ts";
import { createPushStore } from "./push.ts";
import { createReceiptStore } from "./receipts.ts";
import { directoryChannel } from "./schema.ts";

export interface PostgresStorageOptions {
  /** `postgres://user:password@host:port/database` */
  url: string;
  /** For what `sslmode` in the URL asks for. */
  tls?: ClientTlsFiles | null;
  /** Default `ws`. */
  schema?: string;
  /** Connections of this node, of which two append (the second where others append to the same topics) and one listens; default 10, at least 4 are used. */
  poolSize?: number;
  /** A statement that is not answered by then rejects with `Unavailable`; default 5,000. */
  queryTimeoutMs?: number;
  /** Statements that may wait for a connection; default 16,384. */
  waitingMax?: number;
  /** Views over the application's own tables; default: tables of this service's own. */
  directory?: DirectoryNames;
  /** Whether there is an outbox for applications; what is rejected of it is kept for so long [PUB2]. */
  outbox?: { rejectedKeptMs: number } | null;
  /** How often it is tried whether changes of the directory still come through; default 5,000. */
  heartbeatMs?: number;
  /** Milliseconds since 1970. */
  now?: () => number;
  newId?: () => string;
  /** Told of what a directory listener throws. */
  onListenerError?: (error: unknown) => void;
  /** Told at the start of each thing that is missing and that nothing fails for, in a sentence that says what puts it back. */
  onNotice?: (sentence: string) => void;
  /** Told whether notifications of PostgreSQL come round. */
  hearing?: WriteWatch;
  /** Told whether writes are taken. */
  writes?: WriteWatch;
  /** Told whether reads are answered, where writes are taken. */
  reads?: WriteWatch;
  /** Told whether as many connections can be had as are wanted. */
  filling?: WriteWatch;
  /** Told how many sessions were ended that had held cursors back for longer than `queryTimeoutMs`. */
  onStalled?: (sessions: number) => void;
}

/** How long a change of the directory may take to come round to the node that made it. */
const comeRoundMs = 1_000;

const defaults = {
  tls: null,
  schema: defaultSchema,
  poolSize: 10,
  queryTimeoutMs: 5_000,
  waitingMax: 16_384,
  directory: { users: null, members: null, conversations: null },
  outbox: null,
  heartbeatMs: 5_000,
  now: Date.now,
  newId: () => Bun.randomUUIDv7(),
  onListenerError: () => {},
  onNotice: () => {},
  hearing: unwatched,
  writes: unwatched,
  reads: unwatched,
  filling: unwatched,
  onStalled: () => {},
} satisfies Partial<PostgresStorageOptions>;

type Settings = Required<PostgresStorageOptions>;

/** Builds the storage; nothing is opened before `start`, which refuses a schema of another version. */
export function createPostgresStorage(options: PostgresStorageOptions): Storage {
  const settings: Settings = { ...defaults, ...options };
  const ws = checkSchemaName(settings.schema);
  const { now, outbox, queryTimeoutMs, writes, reads } = settings;
  const { open, pool, appends, watch, lookout, ...stores } = openStores(settings, ws);
  const { log, receipts, joining, directory, conversations, overviews, erasures } = stores;
  const push = createPushStore(pool, ws);
  const known = witnessed(log, lookout.witnesses);
  const { append, proveWrites, hasRefused } = createWriteProof({
    append: known.append,
    // On the connection that appends: another one may be of another mind.
    async write(bytes) {
      await appends.query(`SELECT ${ws}.prove_writes($1)`, [bytes]);
    },
    writes,
  });

  async function stop(): Promise<void> {
    await Promise.all([appends.stop(), pool.stop(), watch.stop()]);
  }

  return {
    log: {
      ...log,
      ...known,
      append,
      async trim(policy) {
        const trimmed = await log.trim(policy);
        if (!trimmed.more) await lookout.forget(policy.createdBefore, pool);
        return trimmed;
      },
    },
    receipts: joining === null ? receipts : fromJoining(receipts, joining),
    overviews: {
      async read(query) {
        const ids = query.conversations.map(({ conversationId }) => conversationId);
        await joining?.note(query.userId, ids);
        return overviews.read(query);
      },
    },
    cursors: createCursorStore(pool, ws, now),
    statuses: createStatusStore(pool, ws),
    push: {
      ...push,
      async receivedThrough(users) {
        // A member who has never asked for anything has a place all the same: where it has joined.
        await joining?.noteMembers(users);
        return push.receivedThrough(users);
      },
    },
    directory,
    conversations,
    erasures,
    ...(outbox === null ? {} : { outbox: new PostgresOutbox({ open, schema: ws, queryTimeoutMs, ...outbox }) }),
    async start() {
      try {
        await begin({ pool, appends, watch, lookout, ...stores }, settings, ws);
      } catch (error) {
        await stop();
        throw error;
      }
    },
    installation: () => readInstallation(pool, ws),
    prove: () => proveBoth({ proveWrites, pool, reads }),
    hasRefused,
    stop,
  };
}

/** Notes before where members have joined. */
function fromJoining(receipts: ReceiptStore, joining: ReturnType<typeof createJoining>): ReceiptStore {
  return {
    ...receipts,
    async advance(marks) {
      const members = marks.map(({ conversationId, userId }) => ({ topic: conversationTopic(conversationId), userId }));
      await joining.noteMembers(members);
      return receipts.advance(marks);
    },
    async states(userId, conversationIds) {
      await joining.note(userId, conversationIds);
      return receipts.states(userId, conversationIds);
    },
  };
}

type Stores = ReturnType<typeof openStores>;

/** Makes the connections' pools, and what reads and writes by them. */
function openStores(settings: Settings, ws: string) {
  const { url, tls, poolSize, queryTimeoutMs, waitingMax, directory: names, now, filling, onStalled } = settings;
  const connection = { url, tls, connectTimeoutMs: queryTimeoutMs, statementTimeoutMs: queryTimeoutMs };
  const lookout = new EpochLookout({ schema: ws, now });
  const open = (events: ConnectionEvents) => openConnection({ ...connection, ...events });
  const reading = { size: Math.max(1, poolSize - 3), queryTimeoutMs, waitingMax, filling };
  const pool = new Pool({ open: lookout.guard(open, "reading"), ...reading });
  const appends = new Pool({ open: lookout.guard(open, "appending"), size: 2, queryTimeoutMs, waitingMax });
  const channel = directoryChannel(ws);
  const watch = new DirectoryWatch({
    ...settings,
    open,
    channel,
    async notify(payload) {
      await pool.query("SELECT pg_notify($1, $2)", [channel, payload]);
    },
    patienceMs: Math.min(comeRoundMs, queryTimeoutMs),
    proofMs: Math.max(comeRoundMs, queryTimeoutMs),
  });
  const stalls = { stallMsMax: queryTimeoutMs, onStalled };
  return {
    open,
    pool,
    appends,
    watch,
    lookout,
    directory: createDirectory({ pool, schema: ws, names, watch, now }),
    receipts: createReceiptStore(pool, ws, now),
    conversations: createConversationStore({ pool, schema: ws, view: names.conversations ?? null }),
    overviews: createOverviewStore(pool, ws),
    erasures: createErasureStore({ pool, schema: ws, ownsMembers: names.members === null }),
    joining: names.members === null ? null : createJoining({ pool, schema: ws, view: names.members }),
    log: createEventLog({ pool, appends, schema: ws, lookout: lookout.over(pool), ...stalls }),
  };
}

/** @throws Unavailable where the schema is of another version, StartError where a view cannot be used */
async function begin(stores: Omit<Stores, "open">, settings: Settings, ws: string): Promise<void> {
  const { pool, appends, watch, lookout, directory, joining, conversations } = stores;
  const { outbox, directory: names, onNotice } = settings;
  pool.start();
  appends.start();
  const refusal = versionRefusal(await readVersion((text) => pool.query(text), ws), ws);
  if (refusal !== null) throw new Unavailable("storage", refusal);
  const query = <Row extends object>(text: string, parameters?: string[]) => pool.query<Row>(text, parameters);
  const looking = { query, schema: ws, names, hasOutbox: outbox !== null };
  for (const sentence of await missingRights(looking)) onNotice(sentence);
  lookout.start();
  // Had before the pool takes more: where connections are few, this one is the last to be without.
  await appends.query("SELECT 1");
  await directory.check();
  await joining?.check();
  await conversations.check();
  await watch.start();
  for (const sentence of await inspect(looking)) onNotice(sentence);
}

/** Asks both, neither of which stands for the other: the connection that appends may be had while the pool has none. */
async function proveBoth({
  proveWrites,
  pool,
  reads,
}: { proveWrites: () => Promise<void>; pool: Pool } & Pick<Settings, "reads">): Promise<void> {
  const [write, read] = await Promise.allSettled([proveWrites(), pool.prove()]);
  if (write.status === "rejected") throw write.reason;
  if (read.status === "rejected") {
    reads.began(read.reason);
    throw read.reason;
  }
  reads.ended();
}
