/** Writes what the steps make of an empty file as one: `npm run generate` writes schema/fresh.sql. */
import { Database } from "bun:sqlite";
import { join } from "node:path";
import { migrations } from "./schema.ts";

/** Are put into tables of an empty file by the steps. */
const rows = `INSERT INTO log_state VALUES (1, 0, 0, 0, 0);
INSERT INTO write_proof VALUES (1, 0, x'');
INSERT INTO installation VALUES (1, lower(hex(randomblob(16))));
INSERT INTO epochs VALUES (1, lower(hex(randomblob(4))), 0, 0, 'migration', unixepoch() * 1000);
INSERT INTO push VALUES (1, NULL, NULL, '', 0);
`;

const heading =
  "-- Is the schema of a new file: what all steps make of an empty one, written from them by `npm run generate`.\n\n";

export function freshSchema(): string {
  const database = new Database(":memory:");
  for (const step of migrations) database.exec(step);
  const made = database
    .query<{ sql: string }, []>(
      "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'",
    )
    .all();
  database.close();
  return `${heading}${made.map(({ sql }) => `${sql};\n`).join("\n")}\n${rows}`;
}

if (import.meta.main) await Bun.write(join(import.meta.dir, "schema/fresh.sql"), freshSchema());
