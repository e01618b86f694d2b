/** Finds what a restore or a grant has left out, which nothing would fail for at once, and says what puts it back. */
import type { DirectoryNames } from "./directory.ts";
import { inspectView } from "./inspection-views.ts";
import { steps } from "./schema.ts";

export interface InspectionOptions {
  query<Row extends object>(text: string, parameters?: string[]): Promise<Row[]>;
  schema: string;
  names: DirectoryNames;
  /** Whether applications publish by the outbox. */
  hasOutbox: boolean;
}

/** @returns sentences for the operator, each with what to paste; none where all is well */
export async function inspect(options: InspectionOptions): Promise<string[]> {
  const found = [await missingTriggers(options), await sequenceBehind(options)];
  for (const kind of ["users", "members"] as const) {
    const view = options.names[kind];
    if (view !== null) found.push(await inspectView({ ...options, kind, view }));
  }
  return found.flat();
}

/** Names tables that this node does not use. */
function unused({ names, hasOutbox }: InspectionOptions): Set<string> {
  return new Set([
    ...(names.users === null ? [] : ["users"]),
    ...(names.members === null ? [] : ["members"]),
    ...((names.conversations ?? null) === null ? [] : ["conversations"]),
    ...(hasOutbox ? [] : ["outbox", "outbox_rejected"]),
  ]);
}

/** Finds in the steps' own words what they have made. */
function made(schema: string, what: RegExp): RegExpMatchArray[] {
  return [
    ...steps
      .map((step) => step(schema))
      .join("\n")
      .matchAll(what),
  ];
}

async function missingTriggers(options: InspectionOptions): Promise<string[]> {
  const { query, schema } = options;
  const rows = await query<{ name: string; fires: boolean; definition: string }>(
    `SELECT c.relname || '.' || t.tgname AS name, t.tgenabled IN ('O', 'A') AS fires, pg_get_triggerdef(t.oid) AS definition
     FROM pg_catalog.pg_trigger AS t JOIN pg_catalog.pg_class AS c ON c.oid = t.tgrelid
     WHERE c.relnamespace = to_regnamespace($1) AND NOT t.tgisinternal`,
    [schema],
  );
  const found = new Map(rows.map((row) => [row.name, row]));
  const triggers = made(
    schema,
    new RegExp(`(?:CREATE|DROP) (TRIGGER (\\w+) [^;]*?\\bON ${schema}\\.(\\w+)\\b[^;]*;)`, "g"),
  );
  // Of a trigger that a later step has made anew, only that counts, and nothing of one that it has dropped.
  const newest = new Map<string, RegExpMatchArray>();
  for (const it of triggers) {
    const key = `${it[3]}.${it[2]}`;
    if (it[0].startsWith("DROP")) newest.delete(key);
    else newest.set(key, it);
  }
  return [...newest].flatMap(([key, [statement, rest, trigger, table]]) => {
    const there = found.get(key);
    if (unused(options).has(table!)) return [];
    const state =
      there === undefined
        ? "is missing"
        : whatItDoes(there.definition) !== whatItDoes(statement)
          ? "is not this version's"
          : there.fires
            ? null
            : "is disabled";
    if (state === null) return [];
    const cure =
      state === "is disabled"
        ? `ALTER TABLE ${schema}.${table} ENABLE TRIGGER ${trigger};`
        : `CREATE OR REPLACE ${rest!.replace(/\s+/g, " ")}`;
    return [`The trigger ${trigger} of ${schema}.${table} ${state}: what is written there goes unnoticed. ${cure}`];
  });
}

/** Says when a trigger fires and what it calls, however its definition is written; its condition is left out. */
function whatItDoes(definition: string): string {
  const [, when, events, , each, called] =
    /(BEFORE|AFTER) (.*?) ON (\S+)\s.*?FOR EACH (\w+)\s.*?EXECUTE FUNCTION (?:\w+\.)?(.*?);?$/s.exec(definition) ?? [];
  return [when, ...(events ?? "").split(" OR ").toSorted(), each, called].join(" ");
}

/** Finds rights that the role lacks; by itself, and first: without some of them nothing else can be asked. @returns one sentence with what to paste, or none */
export async function missingRights(options: InspectionOptions): Promise<string[]> {
  const { query, schema } = options;
  const own = new Set(made(schema, new RegExp(`CREATE TABLE ${schema}\\.(\\w+)`, "g")).map(([, table]) => table!));
  const rows = await query<{ table: string; rights: string }>(
    `SELECT c.relname AS table, string_agg(r.name, ', ' ORDER BY r.place) AS rights
     FROM pg_catalog.pg_class AS c CROSS JOIN unnest('{SELECT,INSERT,UPDATE,DELETE}'::text[]) WITH ORDINALITY AS r (name, place)
     WHERE c.relnamespace = to_regnamespace($1) AND c.relkind IN ('r', 'p') AND NOT has_table_privilege(c.oid, r.name)
     GROUP BY c.relname ORDER BY c.relname`,
    [schema],
  );
  const [draws] = await query<{ lacking: string | null; role: string }>(
    // Null, and so left alone, where there is no such sequence yet.
    `SELECT string_agg(r.name, ', ') FILTER (WHERE NOT has_sequence_privilege(to_regclass($1), r.name)) AS lacking,
       quote_ident(current_user) AS role FROM unnest('{USAGE,SELECT}'::text[]) AS r (name)`,
    [`${schema}.positions`],
  );
  const lacking = rows.filter(({ table }) => own.has(table) && !unused(options).has(table));
  const { role } = draws!;
  const tables = (rows: { table: string }[]) => rows.map(({ table }) => `${schema}.${table}`).join(", ");
  const byRights = Map.groupBy(lacking, ({ rights }) => rights);
  const told = [...byRights].map(([rights, some]) => `${rights} on ${tables(some)}`);
  const cures = lacking.length ? [`GRANT SELECT, INSERT, UPDATE, DELETE ON ${tables(lacking)} TO ${role};`] : [];
  if (draws!.lacking !== null) {
    told.push(`${draws!.lacking} on the sequence ${schema}.positions`);
    cures.push(`GRANT ${draws!.lacking} ON SEQUENCE ${schema}.positions TO ${role};`);
  }
  return told.length ? [`The role ${role} lacks ${told.join("; ")}. ${cures.join(" ")}`] : [];
}

/** Finds a sequence that tables which were restored or replicated without it have left behind: nothing is appended then. */
async function sequenceBehind({ query, schema }: InspectionOptions): Promise<string[]> {
  const end = `SELECT max(position) FROM ${schema}.events`;
  const [row] = await query<{ isBehind: boolean }>(
    // Reads the sequence after what is visible, which was drawn before.
    `SELECT last_value < coalesce((${end}), 0) AS "isBehind" FROM ${schema}.positions`,
  );
  if (!row!.isBehind) return [];
  return [
    `The sequence ${schema}.positions is behind the log: no message is taken. SELECT setval('${schema}.positions', (${end}));`,
  ];
}
