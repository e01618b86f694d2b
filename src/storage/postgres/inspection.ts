/** Finds what a restore or a grant has left out, which nothing would fail for at once, and says what puts it back. */
import type { DirectoryNames } from "./directory.ts";
import { steps } from "./migrate.ts";

export interface InspectionOptions {
  query<Row extends object>(text: string, parameters?: string[]): Promise<Row[]>;
  schema: string;
  names: DirectoryNames;
  /** Whether applications publish by the outbox. */
  hasOutbox: boolean;
}

/** @returns sentences for the operator, each with what to paste; none where all is well */
export async function inspect(options: InspectionOptions): Promise<string[]> {
  const found = [await missingTriggers(options), await missingRights(options)];
  for (const kind of ["users", "members"] as const) {
    const view = options.names[kind];
    if (view !== null) found.push(await silentTables(options, kind, view));
  }
  return found.flat();
}

/** Tables that this node does not use. */
function unused({ names, hasOutbox }: InspectionOptions): Set<string> {
  return new Set([
    ...(names.users === null ? [] : ["users"]),
    ...(names.members === null ? [] : ["members"]),
    ...(hasOutbox ? [] : ["outbox", "outbox_rejected"]),
  ]);
}

/** What the steps have made, by their own words. */
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
  const rows = await query<{ name: string; fires: boolean }>(
    `SELECT c.relname || '.' || t.tgname AS name, t.tgenabled IN ('O', 'A') AS fires
     FROM pg_catalog.pg_trigger AS t JOIN pg_catalog.pg_class AS c ON c.oid = t.tgrelid
     WHERE c.relnamespace = to_regnamespace($1) AND NOT t.tgisinternal`,
    [schema],
  );
  const fires = new Map(rows.map((row) => [row.name, row.fires]));
  const triggers = made(schema, new RegExp(`CREATE TRIGGER (\\w+) [^;]*? ON ${schema}\\.(\\w+)\\s[^;]*;`, "g"));
  return triggers.flatMap(([statement, trigger, table]) => {
    const isFiring = fires.get(`${table}.${trigger}`);
    if (isFiring === true || unused(options).has(table!)) return [];
    const [state, cure] =
      isFiring === undefined
        ? ["is missing", statement.replace(/\s+/g, " ")]
        : ["is disabled", `ALTER TABLE ${schema}.${table} ENABLE TRIGGER ${trigger};`];
    return [`The trigger ${trigger} of ${schema}.${table} ${state}: what is written there goes unnoticed. ${cure}`];
  });
}

async function missingRights(options: InspectionOptions): Promise<string[]> {
  const { query, schema } = options;
  const own = new Set(made(schema, new RegExp(`CREATE TABLE ${schema}\\.(\\w+)`, "g")).map(([, table]) => table!));
  const rows = await query<{ table: string; role: string; rights: string }>(
    `SELECT c.relname AS table, quote_ident(current_user) AS role, string_agg(r.name, ', ' ORDER BY r.place) AS rights
     FROM pg_catalog.pg_class AS c CROSS JOIN unnest('{SELECT,INSERT,UPDATE,DELETE}'::text[]) WITH ORDINALITY AS r (name, place)
     WHERE c.relnamespace = to_regnamespace($1) AND c.relkind IN ('r', 'p') AND NOT has_table_privilege(c.oid, r.name)
     GROUP BY c.relname ORDER BY c.relname`,
    [schema],
  );
  const lacking = rows.filter(({ table }) => own.has(table) && !unused(options).has(table));
  if (lacking.length === 0) return [];
  const { role } = lacking[0]!;
  const tables = (rows: { table: string }[]) => rows.map(({ table }) => `${schema}.${table}`).join(", ");
  const byRights = Map.groupBy(lacking, ({ rights }) => rights);
  const told = [...byRights].map(([rights, some]) => `${rights} on ${tables(some)}`).join("; ");
  return [`The role ${role} lacks ${told}. GRANT SELECT, INSERT, UPDATE, DELETE ON ${tables(lacking)} TO ${role};`];
}

interface Silent {
  name: string;
  columns: string;
  definition: string;
}

/** The tables under a view of the application's that have no trigger which tells of changes. */
async function silentTables(options: InspectionOptions, kind: "users" | "members", view: string): Promise<string[]> {
  const { query, schema } = options;
  const rows = await query<Silent>(
    `WITH RECURSIVE seen (relation) AS (
       SELECT $1::text::regclass::oid
       UNION
       SELECT d.refobjid FROM seen JOIN pg_catalog.pg_rewrite AS r ON r.ev_class = seen.relation
         JOIN pg_catalog.pg_depend AS d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
           AND d.refclassid = 'pg_class'::regclass)
     SELECT format('%I.%I', n.nspname, c.relname) AS name, pg_get_viewdef($1::text::regclass::oid, true) AS definition,
       (SELECT string_agg(a.attname, ' ') FROM pg_catalog.pg_attribute AS a WHERE a.attrelid = c.oid AND a.attnum > 0)
         AS columns
     FROM seen JOIN pg_catalog.pg_class AS c ON c.oid = seen.relation JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'p', 'f') AND NOT EXISTS (
       SELECT FROM pg_catalog.pg_trigger AS t JOIN pg_catalog.pg_proc AS p ON p.oid = t.tgfoid
       WHERE t.tgrelid = c.oid AND NOT t.tgisinternal AND t.tgenabled IN ('O', 'A')
         AND (p.pronamespace = to_regnamespace($2) OR p.prosrc LIKE '%' || $2 || '.notify_%'))
     ORDER BY 1`,
    [view.replace(/^(\w+)\.(\w+)$/, '"$1"."$2"'), schema],
  );
  return rows.map(({ name, columns, definition }) => {
    const column = (id: string) => columnOf(id, definition, columns.split(" "));
    const trigger =
      kind === "members"
        ? `CREATE TRIGGER ws_membership AFTER INSERT OR UPDATE OR DELETE ON ${name} FOR EACH ROW EXECUTE FUNCTION ${schema}.notify_membership_changed(${column("conversation_id")}, ${column("user_id")});`
        : `CREATE TRIGGER ws_user AFTER INSERT OR UPDATE OR DELETE ON ${name} FOR EACH ROW EXECUTE FUNCTION ${schema}.notify_user_changed(${column("user_id")});`;
    return `directory.${kind}: no trigger of ${name} tells of changes, so that live connections do not hear of them. ${trigger}`;
  });
}

/** The column of the table that the view shows as an id, as far as its text says so. */
function columnOf(id: string, definition: string, columns: string[]): string {
  const renamed = new RegExp(`(\\w+)"?\\)*(?:::[\\w ]+?)?\\)* AS ${id}\\b`).exec(definition)?.[1];
  const name = [renamed, id].find((it) => it !== undefined && columns.includes(it));
  return name === undefined ? `'<its column of ${id}>'` : `'${name}'`;
}
