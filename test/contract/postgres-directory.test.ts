/** The directory on PostgreSQL as applications use it: their own SQL, their own tables [PUB3]. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import type { DirectoryChange } from "../../src/storage/directory-store.ts";
import { openConnection } from "../../src/storage/postgres/connection.ts";
import { DirectoryWatch } from "../../src/storage/postgres/directory-watch.ts";
import { migrate } from "../../src/storage/postgres/migrate.ts";
import { createPostgresStorage, type PostgresStorageOptions } from "../../src/storage/postgres/storage.ts";
import { isMemberChange, isUserChange, recordChanges } from "../support/change-recorder.ts";
import { type PostgresServer, startPostgres } from "../support/postgres.ts";

let server: PostgresServer;
beforeAll(async () => {
  server = await startPostgres();
});
afterAll(() => server?.stop());

async function openSchema(): Promise<string> {
  const schema = server.newSchema();
  await migrate({ url: server.url, schema, lockTimeoutMs: 5_000 });
  return schema;
}

async function open(schema: string, options: Partial<PostgresStorageOptions> = {}) {
  const storage = createPostgresStorage({ url: server.url, schema, poolSize: 4, ...options });
  await storage.start();
  return storage;
}

test("[PUB3] [SUB3] [AUTH4] what the application writes is told to every node once, in order", async () => {
  const schema = await openSchema();
  const nodes = [await open(schema), await open(schema)];
  const recorders = nodes.map(({ directory }) => recordChanges(directory));
  await server.run(`
    INSERT INTO ${schema}.members VALUES ('c1', 'ann'), ('c1', 'bob');
    UPDATE ${schema}.members SET conversation_id = 'c2' WHERE user_id = 'bob';
    DELETE FROM ${schema}.members WHERE user_id = 'ann';
    INSERT INTO ${schema}.users VALUES ('ann');
    UPDATE ${schema}.users SET disabled = true WHERE user_id = 'ann';
    UPDATE ${schema}.users SET disabled = true WHERE user_id = 'ann'`);
  await nodes[0]!.directory.addMembers("c3", ["eve"]);
  for (const { told, changes, stop } of recorders) {
    await told(isMemberChange("member_added", "c3", "eve"));
    stop();
    expect(changes).toEqual([
      { kind: "member_added", conversationId: "c1", userId: "ann" },
      { kind: "member_added", conversationId: "c1", userId: "bob" },
      { kind: "member_removed", conversationId: "c1", userId: "bob" },
      { kind: "member_added", conversationId: "c2", userId: "bob" },
      { kind: "member_removed", conversationId: "c1", userId: "ann" },
      { kind: "user_changed", userId: "ann" },
      { kind: "user_changed", userId: "ann" },
      { kind: "member_added", conversationId: "c3", userId: "eve" },
    ]);
  }
  expect(await nodes[1]!.directory.membersOf("c2")).toEqual(["bob"]);
  await Promise.all(nodes.map((node) => node.stop()));
});

test("[PUB3] equal changes within one transaction are all told, and none of one that rolls back", async () => {
  const schema = await openSchema();
  const node = await open(schema);
  const recorder = recordChanges(node.directory);
  await server.run(`BEGIN; INSERT INTO ${schema}.members VALUES ('c1', 'eve'); ROLLBACK`);
  await server.run(`
    BEGIN;
    INSERT INTO ${schema}.members VALUES ('c1', 'ann');
    DELETE FROM ${schema}.members;
    INSERT INTO ${schema}.members VALUES ('c1', 'ann');
    COMMIT`);
  await node.directory.upsertUsers(["last"]);
  recorder.stop();
  const kinds = recorder.changes.map(({ kind }) => kind);
  expect(kinds).toEqual(["member_added", "member_removed", "member_added", "user_changed"]);
  await node.stop();
});

test("[PUB3] own changes have been told when the call that made them resolves", async () => {
  const schema = await openSchema();
  const node = await open(schema);
  const recorder = recordChanges(node.directory);
  await node.directory.addMembers("c1", ["ann"]);
  expect(recorder.changes).toEqual([{ kind: "member_added", conversationId: "c1", userId: "ann" }]);
  recorder.stop();
  await node.stop();
});

test("[PUB3] after its connection was lost a node is told to start over", async () => {
  const schema = await openSchema();
  const node = await open(schema);
  const recorder = recordChanges(node.directory);
  await server.run(
    `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = 'LISTEN "${schema}_directory"'`,
  );
  await recorder.told(({ kind }) => kind === "resync");
  await node.directory.addMembers("c1", ["ann"]);
  await recorder.told(isMemberChange("member_added", "c1", "ann"));
  recorder.stop();
  await node.stop();
});

test("[PUB3] what cannot be told one by one, or not be understood, is a resync and never the application's error", async () => {
  const schema = await openSchema();
  const node = await open(schema);
  const faults: string[] = [
    `TRUNCATE ${schema}.members`,
    `INSERT INTO ${schema}.users VALUES (repeat('x', 2000) || 'y')`,
    `SELECT ${schema}.notify_directory(jsonb_build_object('op', 'user_changed', 'user_id', repeat('x', 9000)))`,
    `NOTIFY ${schema}_directory, 'not JSON'`,
    `NOTIFY ${schema}_directory, '{"op": "member_added", "user_id": 7}'`,
  ];
  for (const [index, statement] of faults.entries()) {
    const recorder = recordChanges(node.directory);
    await server.run(statement);
    await recorder.told(({ kind }) => kind === (index === 1 ? "user_changed" : "resync"));
    recorder.stop();
  }
  await node.stop();
});

test("[PUB3] a listener that throws does not keep others from being told", async () => {
  const schema = await openSchema();
  const faults: unknown[] = [];
  const node = await open(schema, { onListenerError: (error) => faults.push(error) });
  node.directory.watch(() => {
    throw new Error("listener");
  });
  const recorder = recordChanges(node.directory);
  await node.directory.upsertUsers(["ann"]);
  await recorder.told(isUserChange("ann"));
  expect(faults).toHaveLength(1);
  await node.stop();
});

test("[PUB3] views over the application's own tables decide, and its triggers tell of changes", async () => {
  const schema = await openSchema();
  const app = server.newSchema();
  const [room, ann, bob] = ["0b2d5a3c-7f51-4f0e-9c39-6a1a7d0e4b11", "1", "2"];
  await server.run(`
    CREATE SCHEMA ${app};
    CREATE TABLE ${app}.accounts (account_id bigint PRIMARY KEY, banned_at timestamptz, seen_at timestamptz);
    CREATE TABLE ${app}.room_members (room_id uuid, account_id bigint, PRIMARY KEY (room_id, account_id));
    CREATE VIEW ${app}.ws_users AS SELECT account_id AS user_id, banned_at IS NOT NULL AS disabled FROM ${app}.accounts;
    CREATE VIEW ${app}.ws_members AS SELECT room_id AS conversation_id, account_id AS user_id FROM ${app}.room_members;
    CREATE TRIGGER ws_membership AFTER INSERT OR UPDATE OR DELETE ON ${app}.room_members
      FOR EACH ROW EXECUTE FUNCTION ${schema}.notify_membership_changed('room_id', 'account_id');
    CREATE TRIGGER ws_user AFTER INSERT OR DELETE OR UPDATE OF banned_at ON ${app}.accounts
      FOR EACH ROW EXECUTE FUNCTION ${schema}.notify_user_changed('account_id')`);
  const node = await open(schema, { directory: { users: `${app}.ws_users`, members: `${app}.ws_members` } });
  const { directory } = node;
  const recorder = recordChanges(directory);
  await server.run(`
    INSERT INTO ${app}.accounts VALUES (1), (2);
    INSERT INTO ${app}.room_members VALUES ('${room}', 1), ('${room}', 2);
    UPDATE ${app}.accounts SET seen_at = now();
    UPDATE ${app}.accounts SET banned_at = now() WHERE account_id = 2;
    DELETE FROM ${app}.room_members WHERE account_id = 2`);
  await recorder.told(isMemberChange("member_removed", room, bob));
  recorder.stop();
  expect(recorder.changes).toEqual([
    { kind: "user_changed", userId: ann },
    { kind: "user_changed", userId: bob },
    { kind: "member_added", conversationId: room, userId: ann },
    { kind: "member_added", conversationId: room, userId: bob },
    { kind: "user_changed", userId: bob },
    { kind: "member_removed", conversationId: room, userId: bob },
  ]);
  await server.run(`INSERT INTO ${app}.room_members VALUES ('${room}', 2)`);
  expect([await directory.userState(ann), await directory.userState(bob)]).toEqual(["active", "disabled"]);
  expect(new Set((await directory.membershipsAmong(ann, [room])).keys())).toEqual(new Set([room]));
  expect(new Set((await directory.membersAmong(room, [ann, bob])).keys())).toEqual(new Set([ann, bob]));
  expect((await directory.membersOf(room)).toSorted()).toEqual([ann, bob]);
  expect((await directory.membersOfEach([room], 10)).get(room)!.toSorted()).toEqual([ann, bob]);
  expect((await directory.membersOfEach(["lobby", room], 1)).get(room)).toHaveLength(1);
  expect(await directory.conversationsOf(ann)).toEqual([room]);
  expect(await directory.peersOf(ann, 10)).toEqual([bob]);
  expect(await directory.sharingWith(ann, [ann, bob])).toEqual(new Set([ann, bob]));

  // Ids that those columns cannot hold belong to nobody, also where others ask at the same time.
  expect(await directory.userState("eve")).toBe("unknown");
  const states = (...ids: string[]) => Promise.all(ids.map((id) => directory.userState(id)));
  expect(await states(ann, "eve", bob)).toEqual(["active", "unknown", "disabled"]);
  expect(await states(ann, bob)).toEqual(["active", "disabled"]);
  const asked: [string, string[]][] = [
    [ann, ["lobby", room]],
    ["eve", [room]],
    [bob, [room]],
  ];
  const found = async (some: typeof asked) =>
    (await Promise.all(some.map(([id, ids]) => directory.membershipsAmong(id, ids)))).map((it) => [...it.keys()]);
  expect(await found(asked)).toEqual([[room], [], [room]]);
  expect(await found([...asked.slice(2), [ann, [room]]])).toEqual([[room], [room]]);
  expect([await directory.standingOf(bob), await directory.standingOf("eve")]).toEqual([
    { state: "disabled", blockedUntil: null },
    { state: "unknown", blockedUntil: null },
  ]);
  expect(new Set((await directory.membershipsAmong(ann, ["lobby", room])).keys())).toEqual(new Set([room]));
  expect(new Set((await directory.membershipsAmong("eve", [room])).keys())).toEqual(new Set());
  expect(new Set((await directory.membersAmong(room, ["eve", bob])).keys())).toEqual(new Set([bob]));
  expect(new Set((await directory.membersAmong("lobby", [ann])).keys())).toEqual(new Set());
  expect(await directory.membersOf("lobby")).toEqual([]);
  expect(await directory.sharingWith(ann, ["eve", bob, "7".repeat(40), ann])).toEqual(new Set([ann, bob]));

  const message = expect.stringMatching(/^directory\.(users|members) names test_/);
  const refused = (work: Promise<void>) => expect(work).rejects.toMatchObject({ name: "DirectoryReadOnly", message });
  await refused(directory.upsertUsers([ann]));
  await refused(directory.setDisabled(ann, true));
  await refused(directory.addMembers(room, [ann]));
  await refused(directory.removeMembers(room, [ann]));
  await node.stop();
});

test("[PUB3] a view that is missing or lacks a column keeps the service from starting, and the error names it", async () => {
  const schema = await openSchema();
  const app = server.newSchema();
  await server.run(`CREATE SCHEMA ${app}; CREATE VIEW ${app}.users AS SELECT 'ann' AS user_id`);
  const start = (users: string) => open(schema, { directory: { users, members: null } });
  await expect(start(`${app}.users`)).rejects.toThrow(`directory.users: ${app}.users cannot be used: `);
  await expect(start(`${app}.nobody`)).rejects.toThrow("does not exist");
  expect(() => createPostgresStorage({ url: server.url, directory: { users: "a.b; --", members: null } })).toThrow();
});

/** A watch on a channel of its own, and what it tells; `notify` sends to the channel. */
function watchOn(
  channel: string,
  { notify, heartbeatMs }: { notify(sql: string): Promise<void>; heartbeatMs: number },
) {
  const changes: DirectoryChange[] = [];
  let heard = () => {};
  const watch = new DirectoryWatch({
    open: (events) => openConnection({ url: server.url, connectTimeoutMs: 5_000, statementTimeoutMs: 0, ...events }),
    channel,
    notify: (payload) => notify(`SELECT pg_notify('${channel}', '${payload}')`),
    patienceMs: 1_000,
    proofMs: 5_000,
    heartbeatMs,
    newId: () => crypto.randomUUID(),
    now: Date.now,
    onListenerError() {},
    hearing: { began() {}, ended() {} },
  });
  watch.add((change) => {
    changes.push(change);
    heard();
  });
  const until = async (isSo: (change: DirectoryChange) => boolean) => {
    while (!changes.some(isSo)) await new Promise<void>((resolve) => (heard = resolve));
  };
  return { watch, changes, until };
}

test("[PUB3] a node that is slow to ask whether it still hears is not deaf, and starts nothing over", async () => {
  const asked = Promise.withResolvers<void>();
  let marks = 0;
  const { watch, changes } = watchOn("slow_directory", {
    async notify(sql) {
      // As where statements wait for a connection for longer than a notification may take.
      await server.run(`SELECT pg_sleep(1.2); ${sql}`);
      if (++marks === 3) asked.resolve();
    },
    heartbeatMs: 600,
  });
  await watch.start();
  await asked.promise;
  await watch.caughtUp();
  await watch.stop();
  expect(changes).toEqual([]);
}, 60_000);

test("[PUB3] of a flood of notifications little is heard, all is looked at once, and what comes after it is heard", async () => {
  const notify = async (sql: string) => void (await server.run(sql));
  const { watch, changes, until } = watchOn("flooded_directory", { notify, heartbeatMs: 60_000 });
  await watch.start();
  await notify(`SELECT pg_notify('flooded_directory', json_build_object('op', 'user_changed', 'user_id', n::text)::text)
    FROM generate_series(1, 20000) AS n`);
  await until(({ kind }) => kind === "resync");
  expect(changes.length).toBeLessThan(5_000);
  await notify(`SELECT pg_notify('flooded_directory', '{"op": "user_changed", "user_id": "after"}')`);
  await until((change) => change.kind === "user_changed" && change.userId === "after");
  await watch.stop();
}, 60_000);
