/** A schema as the first release made it, and its way to append: what upgrades begin from, and what benches compare with. */

import type { NewEvent } from "../../src/storage/ports.ts";
import { arrayOf } from "../../src/storage/postgres/connection.ts";
import { steps } from "../../src/storage/postgres/schema.ts";
import { migrations } from "../../src/storage/sqlite/schema.ts";

/** The versions that the first release has written. */
const firstVersion = 4;
const firstFileVersion = 2;

/** SQL that makes it in an empty database, or in a new schema of one. */
export const firstSchema = (ws: string) => `CREATE SCHEMA ${ws}; ${firstTables(ws)}`;

/** The same in an empty schema that is there. */
export const firstTables = (ws: string) => `CREATE TABLE ${ws}.schema_version (version integer NOT NULL);
  INSERT INTO ${ws}.schema_version VALUES (${firstVersion});
  ${steps
    .slice(0, firstVersion)
    .map((step) => step(ws))
    .join("\n")}`;

/** SQL that makes a SQLite file. */
export const firstFile = `${migrations.slice(0, firstFileVersion).join("\n")}; PRAGMA user_version = ${firstFileVersion}`;

export interface FirstAppended {
  /** Place in the batch, from 1. */
  n: number;
  previousPosition: number;
  seq: number;
  position: number;
  duplicate: boolean;
}

export const firstAppendStatement = (ws: string) =>
  `SELECT n, previous_position AS "previousPosition", seq, position, duplicate
    FROM ${ws}.append($1, $2, $3, $4, $5, $6, $7, $8)`;

/** Makes what the statement is given: an event had one key then, and nothing was kept of what was said under it. */
export function firstAppendParameters(events: NewEvent[]): string[] {
  const column = (value: (event: NewEvent) => string | number | null) => arrayOf(events.map(value));
  return [
    column(({ topic }) => topic),
    column(({ id }) => id),
    column(({ type }) => type),
    column(({ payload }) => payload),
    column(({ createdAt }) => createdAt),
    column(({ once }) => once?.keys[0] ?? null),
    column(({ compactionKey }) => compactionKey ?? null),
    column(({ senderId }) => senderId ?? null),
  ];
}
