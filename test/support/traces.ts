/** Looks through everything that is stored for a text. */
import type { Stored } from "./stored.ts";

/** The columns that have the text, each with the types of the events where it does (null: those are no events). */
export async function tracesOf(stored: Stored, engine: "SQLite" | "PostgreSQL", text: string) {
  const found = new Map<string, Set<string | null>>();
  for (const table of await tablesOf(stored, engine)) {
    for (const row of await stored.run(`SELECT * FROM ws.${table}`)) {
      for (const [column, value] of Object.entries(row)) {
        const shown = typeof value === "object" ? JSON.stringify(value) : String(value);
        if (!shown.includes(text)) continue;
        const types = found.get(`${table}.${column}`) ?? new Set();
        found.set(`${table}.${column}`, types.add(table === "events" ? String(row.type) : null));
      }
    }
  }
  return Object.fromEntries([...found].map(([column, types]) => [column, [...types].sort()]));
}

/** Names all tables of the service, as they are. */
export async function tablesOf(stored: Pick<Stored, "run">, engine: "SQLite" | "PostgreSQL"): Promise<string[]> {
  const rows =
    engine === "SQLite"
      ? await stored.run("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
      : await stored.run("SELECT table_name AS name FROM information_schema.tables WHERE table_schema = 'ws'");
  return rows.map(({ name }) => String(name)).sort();
}
