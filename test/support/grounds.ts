/** Starts the service on each engine, alone and as several nodes, with the directory's own tables open to SQL. */
import { Database } from "bun:sqlite";
import { afterAll, beforeAll } from "bun:test";
import { join } from "node:path";
import { layGround } from "./ground.ts";
import { createPeople } from "./people.ts";
import { runSql } from "./postgres.ts";
import { type Service, startService } from "./service.ts";

interface Standing {
  services: Service[];
  sql(text: string): Promise<void>;
  stop(): Promise<void>;
}

type Settings = Record<string, string>;

async function onSqlite(settings: Settings): Promise<Standing> {
  const service = await startService({ settings });
  return {
    services: [service],
    async sql(text) {
      const database = new Database(join(service.folder, "data/ws-service.db"));
      database.exec("PRAGMA busy_timeout = 5000");
      database.exec(text.replaceAll(/\{(\w+)\}/g, "$1"));
      database.close();
    },
    stop: () => service.stop(),
  };
}

async function onPostgres(nodes: number, settings: Settings): Promise<Standing> {
  const ground = await layGround();
  const services: Service[] = [];
  while (services.length < nodes) services.push(await startService({ settings: { ...ground.settings, ...settings } }));
  return {
    services,
    sql: async (text) => void (await runSql(ground.settings.STORAGE__URL!, text.replaceAll(/\{(\w+)\}/g, "ws.$1"))),
    async stop() {
      await Promise.all(services.map((service) => service.stop()));
      await ground.stop();
    },
  };
}

/** Stands for the tests of the block that it is called in; each of their connections is to another node than the one before. */
export function standFor(stand: Stand, settings: Settings) {
  let standing: Standing;
  beforeAll(async () => {
    standing = await stand(settings);
  });
  afterAll(() => standing?.stop());
  let turn = 0;
  return {
    ...createPeople(() => standing.services[turn++ % standing.services.length]!.url),
    /** Runs SQL on the directory's own tables, as the application's own process; `{members}` stands for the table of members. */
    sql: (text: string) => standing.sql(text),
  };
}

type Stand = (settings: Settings) => Promise<Standing>;

/** For `describe.each`: one node on SQLite, and three on PostgreSQL and Redis. */
export const grounds: [name: string, stand: Stand][] = [
  ["one node on SQLite", onSqlite],
  ["three nodes on PostgreSQL", (settings) => onPostgres(3, settings)],
];
