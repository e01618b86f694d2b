/** Looks whether the tables under the application's own views tell of their changes, and are quickly read; says what mends them. */
import { sqlOf } from "../sql-text.ts";
import tablesUnderView from "./queries/tables-under-view.sql" with { type: "text" };

export interface ViewInspection {
  query<Row extends object>(text: string, parameters?: string[]): Promise<Row[]>;
  schema: string;
  kind: "users" | "members";
  /** `app.ws_members` */
  view: string;
}

interface Trigger {
  name: string;
  isFiring: boolean;
  /** As in `pg_trigger.tgtype`. */
  type: number;
  /** Of our schema; null: a function of the application's own that calls `ws.notify_…`. */
  ours: string | null;
  /** Its arguments, each ended by NUL, in hexadecimal digits. */
  args: string;
  /** The columns of `UPDATE OF`. */
  of: string[];
}

interface Table {
  name: string;
  kind: "r" | "p" | "f";
  columns: string[];
  definition: string;
  triggers: Trigger[];
  /** The first column of each index that covers all rows; null where it is an expression. */
  indexed: (string | null)[];
}

/** Says of each kind what its triggers call, their name in the docs, and the ids that they are given. */
const kinds = {
  users: { notify: "notify_user_changed", trigger: "ws_user", ids: ["user_id"] },
  members: { notify: "notify_membership_changed", trigger: "ws_membership", ids: ["conversation_id", "user_id"] },
} as const;

const eventBits = { INSERT: 4, UPDATE: 16, DELETE: 8, TRUNCATE: 32 } as const;
type Event = keyof typeof eventBits;
const rowEvents: readonly Event[] = ["INSERT", "UPDATE", "DELETE"];
const rowBit = 1;

/** @returns sentences, each with what to paste; none where all is well */
export async function inspectView(options: ViewInspection): Promise<string[]> {
  const tables = await tablesUnder(options);
  return tables.flatMap((table) => [...silence(options, table), ...slowness(options, table)]);
}

function tablesUnder({ query, schema, view }: ViewInspection): Promise<Table[]> {
  return query<Table>(sqlOf(tablesUnderView), [view.replace(/^(\w+)\.(\w+)$/, '"$1"."$2"'), schema]);
}

/** Says of which changes live connections would not hear, and why. */
function silence({ schema, kind }: ViewInspection, table: Table): string[] {
  const { notify, trigger: named, ids } = kinds[kind];
  const columns = idColumns(kind, table);
  const given = columns.map((column, index) => (column === null ? `'<its column of ${ids[index]}>'` : literal(column)));
  const whole = (name: string) =>
    `CREATE OR REPLACE TRIGGER ${name} AFTER INSERT OR UPDATE OR DELETE ON ${table.name} FOR EACH ROW EXECUTE FUNCTION ${schema}.${notify}(${given.join(", ")});`;
  // A table that does not hold the ids is only joined: which of its events matter is the application's to know.
  if (columns.includes(null)) {
    if (table.triggers.some(({ isFiring }) => isFiring)) return [];
    return [
      `directory.${kind}: no trigger of ${table.name} tells of changes, so that live connections do not hear of them. ${whole(named)}`,
    ];
  }
  const own = columns as string[];
  const misled = table.triggers.find((it) => it.ours === notify && isMisled(it, own, table.columns));
  const tells = (trigger: Trigger, event: Event): boolean => {
    if ((trigger.type & eventBits[event]) === 0) return false;
    if (trigger.ours === null || event === "TRUNCATE") return trigger.ours === null || trigger.ours === notify;
    if (trigger.ours !== notify || (trigger.type & rowBit) === 0 || isMisled(trigger, own, table.columns)) return false;
    // Of users only what disables them need be looked at.
    return (
      event !== "UPDATE" || kind === "users" || trigger.of.length === 0 || own.every((id) => trigger.of.includes(id))
    );
  };
  // Users who have gone stay connected anyway, and a foreign table is truncated elsewhere.
  const needed = kind === "members" && table.kind !== "f" ? [...rowEvents, "TRUNCATE" as const] : rowEvents;
  const untold = needed.filter((event) => !table.triggers.some((it) => it.isFiring && tells(it, event)));
  if (untold.length === 0) return [];
  const disabled = table.triggers.filter((it) => !it.isFiring && untold.some((event) => tells(it, event)));
  const left = untold.filter((event) => !disabled.some((it) => tells(it, event)));
  const cures = disabled.map(({ name }) => `ALTER TABLE ${table.name} ENABLE TRIGGER ${name};`);
  if (left.some((event) => event !== "TRUNCATE")) cures.push(whole(misled?.name ?? named));
  if (left.includes("TRUNCATE"))
    cures.push(
      `CREATE OR REPLACE TRIGGER ${named}_truncated AFTER TRUNCATE ON ${table.name} FOR EACH STATEMENT EXECUTE FUNCTION ${schema}.${notify}();`,
    );
  const why =
    misled === undefined || left.every((event) => event === "TRUNCATE")
      ? ""
      : ` (${misled.name} does not name the columns of the ids)`;
  return [
    `directory.${kind}: no enabled trigger of ${table.name} that calls ${schema}.notify_… tells of ${untold.join(", ")}${why}, so that live connections do not hear of it. ${cures.join(" ")}`,
  ];
}

/** Says whether it names columns that are not there, or one id for the other. */
function isMisled({ args, type }: Trigger, ids: string[], columns: string[]): boolean {
  if ((type & rowBit) === 0) return false;
  const texts = Buffer.from(args, "hex").toString().split("\0").slice(0, -1);
  const named = (ids.length === 1 ? ["user_id"] : ["conversation_id", "user_id"]).map(
    (it, index) => texts[index] ?? it,
  );
  const isSwapped = ids.length === 2 && named[0] === ids[1] && named[1] === ids[0];
  return isSwapped || named.some((name) => !columns.includes(name));
}

/** Finds ids that are looked for at every connection and subscription without an index that begins with them. */
function slowness({ kind }: ViewInspection, table: Table): string[] {
  const columns = idColumns(kind, table);
  // An index of an expression may be the one that the view's casts need.
  if (table.kind === "f" || columns.includes(null) || table.indexed.includes(null)) return [];
  const how = table.kind === "p" ? "CREATE INDEX" : "CREATE INDEX CONCURRENTLY";
  return (columns as string[]).flatMap((column) => {
    if (table.indexed.includes(column)) return [];
    const others = (columns as string[]).filter((it) => it !== column);
    const inOrder = [column, ...others].map(identifier).join(", ");
    return [
      `directory.${kind}: no index of ${table.name} begins with ${column}, so that connections and subscriptions become slow. ${how} ON ${table.name} (${inOrder});`,
    ];
  });
}

const literal = (text: string) => `'${text.replaceAll("'", "''")}'`;
const identifier = (name: string) => (/^[a-z_][a-z0-9_]*$/.test(name) ? name : `"${name.replaceAll('"', '""')}"`);

/** Finds the columns of the table that the view shows as ids, as far as its text says so. */
function idColumns(kind: ViewInspection["kind"], { definition, columns }: Table): (string | null)[] {
  return kinds[kind].ids.map((id) => {
    const renamed = new RegExp(`(\\w+)"?\\)*(?:::[\\w ]+?)?\\)* AS ${id}\\b`).exec(definition)?.[1];
    return [renamed, id].find((it) => it !== undefined && columns.includes(it)) ?? null;
  });
}
