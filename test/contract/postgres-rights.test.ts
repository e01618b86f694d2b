/** Proves that what callers define never runs as the schema's owner, and that functions with its rights are granted by name. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { migrate } from "../../src/storage/postgres/migrate.ts";
import { steps } from "../../src/storage/postgres/schema.ts";
import { firstTables } from "../support/first-release.ts";
import { type PostgresServer, runSql, startPostgres } from "../support/postgres.ts";

setDefaultTimeout(60_000);
let server: PostgresServer;
const roles = ["ws_owner", "ws_service", "shop", "stranger"].map((name) => `${name}_${process.pid}`);
const [owner, service, shop, stranger] = roles as [string, string, string, string];
beforeAll(async () => {
  server = await startPostgres();
  await server.run(roles.map((role) => `CREATE ROLE ${role} LOGIN`).join("; "));
});
afterAll(() => server?.stop());

/** A database in which the schema `ws` has been made for the owner, who may not make schemas there. */
async function openDatabase() {
  const url = await server.newDatabase();
  const name = new URL(url).pathname.slice(1);
  await runSql(
    url,
    `REVOKE ALL ON DATABASE ${name} FROM PUBLIC; GRANT CONNECT, TEMPORARY ON DATABASE ${name} TO PUBLIC`,
  );
  await runSql(url, `CREATE SCHEMA ws AUTHORIZATION ${owner}`);
  const as = (role: string) => Object.assign(new URL(url), { username: role }).href;
  const run = (role: string, text: string) => runSql(as(role), text);
  return { url, as, run };
}

test("[PUB3] what a caller defines never runs as the schema's owner, in a schema of before, too", async () => {
  const { as, run } = await openDatabase();
  // As the first release has made it, with an application that publishes.
  await run(
    owner,
    `${firstTables("ws")}; GRANT USAGE ON SCHEMA ws TO ${shop}; INSERT INTO ws.members VALUES ('private', 'anna');
    CREATE TABLE ws.loot (who text); GRANT INSERT ON ws.loot TO ${stranger}; GRANT USAGE ON SCHEMA ws TO ${stranger}`,
  );
  const attack = (use: string) => `
    CREATE TYPE pg_temp.e AS ENUM ('x');
    CREATE FUNCTION pg_temp.evil(pg_temp.e) RETURNS json LANGUAGE plpgsql AS $$
      BEGIN INSERT INTO ws.loot VALUES (current_user); RETURN '"x"'::json; END $$;
    CREATE FUNCTION pg_temp.evil_text(pg_temp.e) RETURNS text LANGUAGE plpgsql AS $$
      BEGIN INSERT INTO ws.loot VALUES (current_user); RETURN 'x'; END $$;
    CREATE CAST (pg_temp.e AS json) WITH FUNCTION pg_temp.evil(pg_temp.e);
    CREATE CAST (pg_temp.e AS text) WITH FUNCTION pg_temp.evil_text(pg_temp.e) AS ASSIGNMENT;
    CREATE TEMP TABLE t (conversation_id pg_temp.e, user_id text);
    CREATE TRIGGER m AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION ws.${use}();
    INSERT INTO t VALUES ('x', 'b')`;
  const uses = ["notify_membership_changed", "notify_user_changed", "note_joining"];
  const before = await run(stranger, attack(uses[0]!)).then(() => run(owner, "SELECT DISTINCT who FROM ws.loot"));
  expect(before).toEqual([{ who: owner }]);
  await run(owner, "DELETE FROM ws.loot");

  await migrate({ url: as(owner), lockTimeoutMs: 10_000 });
  for (const use of uses) await run(stranger, attack(use)).catch(() => {});
  const after = await run(owner, "SELECT DISTINCT who FROM ws.loot");
  expect(after).toEqual([{ who: stranger }]);
  // A role that could publish goes on doing so; one that comes later is granted it by name.
  await run(shop, "SELECT ws.publish('user:anna', 'profile.changed', '{}')");
  await run(owner, `GRANT USAGE ON SCHEMA ws TO ${service}`);
  await expect(run(service, "SELECT ws.publish('user:anna', 'profile.changed', '{}')")).rejects.toThrow(
    "permission denied for function publish",
  );
});

test("[PUB2] in a schema that is made anew nobody may publish who was not named, whoever has USAGE", async () => {
  const { as, run } = await openDatabase();
  await run(owner, `GRANT USAGE ON SCHEMA ws TO ${service}, ${stranger}`);
  await migrate({ url: as(owner), lockTimeoutMs: 10_000 });
  const publish = "SELECT ws.publish('user:anna', 'profile.changed', '{}')";
  for (const role of [service, stranger])
    await expect(run(role, publish)).rejects.toThrow("permission denied for function publish");
  await run(owner, `GRANT EXECUTE ON FUNCTION ws.publish TO ${service}`);
  await run(service, publish);
});

test("[PUB1] [PUB2] a parameter more takes nobody's right to publish, and gives nobody one", async () => {
  const { as, run } = await openDatabase();
  const at = steps.findIndex((step) => step("ws").includes("publish_before"));
  await run(
    owner,
    `CREATE TABLE ws.schema_version (version integer NOT NULL); INSERT INTO ws.schema_version VALUES (0);
    ${steps
      .slice(0, at)
      .map((step) => step("ws"))
      .join("\n")}; UPDATE ws.schema_version SET version = ${at};
    GRANT USAGE ON SCHEMA ws TO ${shop}, ${service}, ${stranger};
    GRANT EXECUTE ON FUNCTION ws.publish TO ${shop}; GRANT EXECUTE ON FUNCTION ws.publish_to_users TO ${service} WITH GRANT OPTION;
    GRANT EXECUTE ON FUNCTION ws.publish_to_conversation TO PUBLIC;
    ALTER DEFAULT PRIVILEGES IN SCHEMA ws GRANT EXECUTE ON FUNCTIONS TO ${stranger}`,
  );
  // A function that names one of before goes on using it.
  await run(
    owner,
    `CREATE FUNCTION ws.use_of_app() RETURNS void LANGUAGE sql BEGIN ATOMIC
      SELECT ws.publish_to_conversation('c1', 'a', '{}'); END`,
  );
  await migrate({ url: as(owner), lockTimeoutMs: 10_000 });
  await run(shop, "SELECT ws.publish('user:anna', 'a', '{}', 'key', 'phone')");
  await run(shop, "SELECT ws.publish(topic => 'user:anna', type => 'b', payload => '{}', except_device => 'phone')");
  await run(service, "SELECT ws.publish_to_users('{anna}', 'c', '{}')");
  await run(stranger, "SELECT ws.publish_to_conversation('c1', 'd', '{}', NULL, 'laptop')");
  await run(owner, "SELECT ws.use_of_app()");
  for (const [role, call] of [
    [stranger, "ws.publish('user:anna', 'a', '{}')"],
    [stranger, "ws.publish_to_users('{anna}', 'a', '{}')"],
    [service, "ws.publish('user:anna', 'a', '{}')"],
    [shop, "ws.publish_to_users('{anna}', 'a', '{}')"],
  ] as const)
    await expect(run(role, `SELECT ${call}`)).rejects.toThrow("permission denied for function publish");
  expect(await run(owner, "SELECT topic, type, event_key, except_device FROM ws.outbox ORDER BY id")).toEqual([
    { topic: "user:anna", type: "a", event_key: "key", except_device: "phone" },
    { topic: "user:anna", type: "b", event_key: null, except_device: "phone" },
    { topic: "user:anna", type: "c", event_key: null, except_device: null },
    { topic: "conversation:c1", type: "d", event_key: null, except_device: "laptop" },
    { topic: "conversation:c1", type: "a", event_key: null, except_device: null },
  ]);
  await run(service, `GRANT EXECUTE ON FUNCTION ws.publish_to_users TO ${stranger}`);
  const owners = await run(
    owner,
    "SELECT DISTINCT proowner::regrole::text AS who FROM pg_proc WHERE proname ~ '^publish'",
  );
  expect(owners).toEqual([{ who: owner }]);
});

test("[PUB3] who writes to a table with our triggers needs no right in the schema", async () => {
  const { url, as, run } = await openDatabase();
  await migrate({ url: as(owner), lockTimeoutMs: 10_000 });
  await run(owner, `GRANT USAGE ON SCHEMA ws TO ${shop}; GRANT INSERT ON ws.members TO ${shop}`);
  await runSql(url, `CREATE SCHEMA app AUTHORIZATION ${shop}`);
  await run(
    shop,
    `CREATE TABLE app.room_members (room_id uuid, account_id bigint);
    CREATE TRIGGER m AFTER INSERT OR UPDATE OR DELETE ON app.room_members
      FOR EACH ROW EXECUTE FUNCTION ws.notify_membership_changed('room_id', 'account_id');
    CREATE TRIGGER u AFTER INSERT OR DELETE ON app.room_members
      FOR EACH ROW EXECUTE FUNCTION ws.notify_user_changed('account_id');
    GRANT USAGE ON SCHEMA app TO ${stranger}; GRANT SELECT, INSERT, UPDATE, DELETE ON app.room_members TO ${stranger}`,
  );
  await run(
    stranger,
    `INSERT INTO app.room_members VALUES (gen_random_uuid(), 1); UPDATE app.room_members SET account_id = 2;
    DELETE FROM app.room_members`,
  );
  // Where a member has joined is noted for who may only add members.
  await run(
    owner,
    `INSERT INTO ws.topics (name) VALUES ('conversation:c1');
    INSERT INTO ws.events (topic_id, position, seq, created_at, id, type, payload) SELECT topic_id, 7, 3, 0, 'e', 'x', '{}' FROM ws.topics`,
  );
  await run(shop, "INSERT INTO ws.members VALUES ('c1', 'anna')");
  expect(await run(owner, "SELECT user_id, kind, seq::integer FROM ws.receipts")).toEqual([
    { user_id: "anna", kind: "joined", seq: 3 },
  ]);
});

test("[PUB2] [PUB3] every function looks things up in the engine's own schema, and none that has its owner's rights is everybody's", async () => {
  const { as, run } = await openDatabase();
  await migrate({ url: as(owner), lockTimeoutMs: 10_000 });
  const functions = await run(
    owner,
    `SELECT p.proname AS name, p.prosecdef AS definer, has_function_privilege('${stranger}', p.oid, 'EXECUTE') AS anybody,
       coalesce(p.proconfig @> '{"search_path=pg_catalog, pg_temp"}', false) AS bounded
     FROM pg_proc AS p WHERE p.pronamespace = 'ws'::regnamespace ORDER BY p.proname`,
  );
  expect(functions.filter(({ bounded }) => !bounded)).toEqual([]);
  const definers = functions.filter(({ definer }) => definer);
  expect(definers.filter(({ anybody }) => anybody)).toEqual([]);
  expect(definers.map(({ name }) => name)).toEqual([
    "note_joining",
    "publish",
    "publish_to_conversation",
    "publish_to_users",
    "refuse_erased",
  ]);
});
