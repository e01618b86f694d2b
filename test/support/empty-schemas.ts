/** Lends schemas of this build's version and empties those that come back: making one takes a hundred times as long. */
import postgres from "postgres";
import { migrate } from "../../src/storage/postgres/migrate.ts";
import type { PostgresServer } from "./postgres.ts";

export interface EmptySchemas {
  /** One that is as a migration makes it, and nobody else's. */
  take(): Promise<string>;
  /** Takes it back once nobody uses it any more. */
  giveBack(schema: string): Promise<void>;
  close(): Promise<void>;
}

export function lendEmptySchemas(server: Pick<PostgresServer, "url" | "newSchema">): EmptySchemas {
  const sql = postgres(server.url, { max: 1, onnotice: () => {} });
  /** SQL that makes each as it was, by its name. */
  const emptyings = new Map<string, string>();
  const free: string[] = [];

  async function make(): Promise<string> {
    const schema = server.newSchema();
    await migrate({ url: server.url, schema, lockTimeoutMs: 5_000 });
    emptyings.set(schema, await keepAsNew(schema));
    return schema;
  }

  /** Keeps copies of what the migration has stored. @returns SQL that leaves nothing but that */
  async function keepAsNew(schema: string): Promise<string> {
    const kept = server.newSchema();
    await sql.unsafe(`CREATE SCHEMA ${kept}`);
    // The tables' own triggers and references would refuse it.
    const statements = ["SET session_replication_role = replica"];
    for (const { tablename } of await sql`SELECT tablename FROM pg_tables WHERE schemaname = ${schema}`) {
      const [table, copy] = [`${schema}.${tablename}`, `${kept}.${tablename}`];
      statements.push(`DELETE FROM ${table}`);
      const { count } = await sql.unsafe(`CREATE TABLE ${copy} AS TABLE ${table}`);
      if (count > 0) statements.push(`INSERT INTO ${table} SELECT * FROM ${copy}`);
    }
    const sequences = await sql`SELECT sequencename, last_value FROM pg_sequences WHERE schemaname = ${schema}`;
    for (const { sequencename, last_value: value } of sequences) {
      const name = `${schema}.${sequencename}`;
      statements.push(value === null ? `ALTER SEQUENCE ${name} RESTART` : `SELECT setval('${name}', ${value})`);
    }
    return statements.join(";\n");
  }

  return {
    take: async () => free.pop() ?? (await make()),
    async giveBack(schema) {
      await sql.unsafe(emptyings.get(schema)!);
      free.push(schema);
    },
    close: () => sql.end(),
  };
}
