/** Asks prepared statements on a connection that the client has made, one at a time, and reads their rows: that costs a fraction of what the client takes for it. */
import type { Socket } from "node:net";

export type Parameter = string | number | boolean | null;

/** How values of each type of PostgreSQL's, by its number, are written and read; all others are texts. */
export interface ValueTypes {
  serializers: Record<number, (value: Parameter) => unknown>;
  parsers: Record<number, (text: string) => unknown>;
}

interface Statement {
  name: string;
  /** Of its parameters. */
  types: number[];
  columns: { name: string; parse: ((text: string) => unknown) | undefined }[];
}

interface Asked {
  text: string;
  parameters: readonly Parameter[];
  statement: Statement;
  isPreparing: boolean;
  rows: object[];
  error: Refusal | null;
  /** By which the server refused the plan that it had kept. */
  refused: Refusal | null;
  resolve: (rows: object[]) => void;
  reject: (error: Error) => void;
}

type Refusal = Error & { code?: string; routine?: string };

/** Kinds of messages, by their first byte. */
const kind = {
  parse: 0x50,
  bind: 0x42,
  describe: 0x44,
  row: 0x44,
  flush: 0x48,
  sync: 0x53,
  parseDone: 0x31,
  bindDone: 0x32,
  commandDone: 0x43,
  emptyDone: 0x49,
  parameterTypes: 0x74,
  columns: 0x54,
  noColumns: 0x6e,
  error: 0x45,
  notice: 0x4e,
  setting: 0x53,
  notification: 0x41,
  ready: 0x5a,
};

const errorFields: Record<string, string> = {
  V: "severity",
  C: "code",
  D: "detail",
  H: "hint",
  P: "position",
  q: "internal_query",
  W: "where",
  s: "schema_name",
  t: "table_name",
  c: "column_name",
  n: "constraint_name",
  R: "routine",
};

/** Of the server's code: a plan that it had kept is no more, or is not what it was, and is made anew. */
const stalePlan = new Set(["FetchPreparedStatement", "RevalidateCachedQuery", "transformAssignedExpr"]);

const booleanType = 16;
const nothing = Buffer.alloc(0);
const syncMessage = Buffer.from([kind.sync, 0, 0, 0, 4]);
/** All rows of the portal without a name, and the end of the transaction. */
const executeAndSync = Buffer.concat([Buffer.from([0x45, 0, 0, 0, 9, 0, 0, 0, 0, 0]), syncMessage]);
/** Bytes that are kept for the next statement. */
const keptBytesMax = 256 * 1024;

export class PreparedStatements {
  readonly #statements = new Map<string, Statement>();
  /** Behind a pooler another client's may stand on the same connection. */
  readonly #prefix = crypto.randomUUID().slice(0, 8);
  readonly #client: (chunk: Buffer) => void;
  #named = 0;
  #asked: Asked | null = null;
  /** Of a message whose end has not come. */
  #rest: Buffer = nothing;
  /** Written anew for each statement: when it is answered the one before has been sent. */
  #bytes: Buffer = Buffer.allocUnsafe(4_096);

  /** @param socket of a connection on which the client has nothing under way; it goes on to hear what is not asked here, and of the end */
  constructor(
    private readonly socket: Socket,
    private readonly types: ValueTypes,
  ) {
    const listeners = socket.listeners("data") as ((chunk: Buffer) => void)[];
    this.#client = (chunk) => {
      for (const listener of listeners) listener(chunk);
    };
    socket.removeAllListeners("data");
    socket.on("data", (chunk: Buffer) => this.#hear(chunk));
  }

  /**
   * Asks one, while nothing else is asked on the connection; it is never answered where that has ended.
   * @throws what the server says, with its `code`
   */
  ask(text: string, parameters: readonly Parameter[]): Promise<object[]> {
    return new Promise((resolve, reject) => {
      const common = { text, parameters, rows: [], error: null, refused: null, resolve, reject };
      const statement = this.#statements.get(text);
      if (statement === undefined) return this.#prepare(common);
      this.#asked = { ...common, statement, isPreparing: false };
      this.#bind(this.#asked);
    });
  }

  #prepare(asked: Omit<Asked, "statement" | "isPreparing">): void {
    const statement = { name: `${this.#prefix}-${this.#named++}`, types: [], columns: [] };
    this.#asked = { ...asked, statement, isPreparing: true };
    const types = asked.parameters.map((value) => (typeof value === "boolean" ? booleanType : 0));
    const numbers = Buffer.alloc(2 + 4 * types.length);
    numbers.writeUInt16BE(types.length);
    for (const [index, type] of types.entries()) numbers.writeUInt32BE(type, 2 + 4 * index);
    this.socket.write(
      Buffer.concat([
        message(kind.parse, Buffer.from(`${statement.name}\0${asked.text}\0`), numbers),
        message(kind.describe, Buffer.from(`S${statement.name}\0`)),
        message(kind.flush),
      ]),
    );
  }

  #bind({ statement: { name, types }, parameters }: Asked): void {
    const { serializers } = this.types;
    const texts = parameters.map((value, index) => {
      if (value === null) return null;
      const serialize = serializers[types[index]!];
      return serialize === undefined ? String(value) : String(serialize(value));
    });
    let most = 64 + name.length;
    for (const text of texts) most += 4 + (text === null ? 0 : mostBytesOf(text));
    const bytes = most <= this.#bytes.length ? this.#bytes : Buffer.allocUnsafe(most);
    if (most <= keptBytesMax) this.#bytes = bytes;
    bytes[0] = kind.bind;
    // The portal has no name; parameters and columns are texts.
    bytes[5] = 0;
    let at = 6 + bytes.write(name, 6, "latin1");
    bytes[at++] = 0;
    at = bytes.writeUInt16BE(0, at);
    at = bytes.writeUInt16BE(texts.length, at);
    for (const text of texts) {
      const length = text === null ? -1 : bytes.write(text, at + 4);
      bytes.writeInt32BE(length, at);
      at += 4 + Math.max(0, length);
    }
    at = bytes.writeUInt16BE(0, at);
    bytes.writeUInt32BE(at - 1, 1);
    bytes.set(executeAndSync, at);
    this.socket.write(bytes.subarray(0, at + executeAndSync.length));
  }

  #hear(chunk: Buffer): void {
    const bytes = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    let at = 0;
    while (this.#asked !== null && bytes.length - at >= 5) {
      const end = at + 1 + bytes.readUInt32BE(at + 1);
      if (end > bytes.length) break;
      this.#take(this.#asked, bytes, at, end);
      at = end;
    }
    this.#rest = this.#asked === null ? nothing : bytes.subarray(at);
    if (this.#asked === null && at < bytes.length) this.#client(bytes.subarray(at));
  }

  #take(asked: Asked, bytes: Buffer, start: number, end: number): void {
    switch (bytes[start]) {
      case kind.row:
        asked.rows.push(readRow(asked.statement, bytes, start + 7));
        return;
      case kind.ready:
        return this.#settle(asked);
      case kind.error:
        asked.error = readError(bytes.toString("utf8", start + 5, end));
        if (asked.isPreparing) this.socket.write(syncMessage);
        return;
      case kind.parameterTypes:
        for (let at = start + 7; at < end; at += 4) asked.statement.types.push(bytes.readUInt32BE(at));
        return;
      case kind.columns:
      case kind.noColumns:
        if (bytes[start] === kind.columns) this.#readColumns(asked.statement, bytes, start + 5);
        this.#statements.set(asked.text, asked.statement);
        asked.isPreparing = false;
        return this.#bind(asked);
      case kind.parseDone:
      case kind.bindDone:
      case kind.commandDone:
      case kind.emptyDone:
      case kind.notice:
      case kind.setting:
      case kind.notification:
        return;
      default:
        // Ends the line: it is not known what comes next on it.
        this.#asked = null;
        this.socket.destroy();
        asked.reject(new Error(`PostgreSQL has sent a message of the kind ${bytes[start]}.`));
    }
  }

  #settle({ error, refused, ...asked }: Asked): void {
    this.#asked = null;
    if (error === null) return asked.resolve(asked.rows);
    if (refused === null && stalePlan.has(error.routine ?? "") && this.#statements.delete(asked.text))
      return this.#prepare({ ...asked, rows: [], error: null, refused: error });
    asked.reject(refused ?? error);
  }

  #readColumns({ columns }: Statement, bytes: Buffer, start: number): void {
    const count = bytes.readUInt16BE(start);
    let at = start + 2;
    for (let index = 0; index < count; index++) {
      const end = bytes.indexOf(0, at);
      // Behind the name: the table and its column, then the type.
      const parse = this.types.parsers[bytes.readUInt32BE(end + 7)];
      columns.push({ name: bytes.toString("utf8", at, end), parse });
      at = end + 19;
    }
  }
}

function message(first: number, ...parts: Buffer[]): Buffer {
  const head = Buffer.from([first, 0, 0, 0, 0]);
  head.writeUInt32BE(
    parts.reduce((sum, { length }) => sum + length, 4),
    1,
  );
  return Buffer.concat([head, ...parts]);
}

/** Counts only what is long: a character is three bytes at most. */
const mostBytesOf = (text: string) => (text.length > 4_096 ? Buffer.byteLength(text) : 3 * text.length);

function readRow({ columns }: Statement, bytes: Buffer, start: number): object {
  const row: Record<string, unknown> = {};
  let at = start;
  for (const { name, parse } of columns) {
    const length = bytes.readInt32BE(at);
    at += 4;
    if (length < 0) {
      row[name] = null;
      continue;
    }
    const text = bytes.toString("utf8", at, at + length);
    at += length;
    row[name] = parse === undefined ? text : parse(text);
  }
  return row;
}

/** @param text of fields, each a letter and what it says */
function readError(text: string): Refusal {
  const fields = new Map(text.split("\0").map((field) => [field[0] ?? "", field.slice(1)]));
  const error = new Error(fields.get("M") ?? "");
  for (const [letter, name] of Object.entries(errorFields))
    if (fields.has(letter)) Object.assign(error, { [name]: fields.get(letter) });
  return error;
}
