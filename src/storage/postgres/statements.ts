/** Asks prepared statements past the client library, which spends most of a small statement's time on what they do not need. */
import postgres from "postgres";
import type { Exchange, Wire } from "./wire.ts";

export type Parameter = string | number | boolean | null;

/** Turns a column's text into a value, by its type; none: it stays text. */
export type ColumnParsers = Record<number, ((text: string) => unknown) | undefined>;

interface Column {
  name: string;
  parse: ((text: string) => unknown) | undefined;
}

/** A statement that the server knows by its name. */
interface Prepared {
  name: string;
  /** null: not told yet, for it was never asked. */
  columns: Column[] | null;
}

const code = (letter: string) => letter.charCodeAt(0);
const sent = { parse: code("P"), describe: code("D"), bind: code("B"), execute: code("E"), sync: code("S") };
const told = {
  rowDescription: code("T"),
  noData: code("n"),
  dataRow: code("D"),
  error: code("E"),
  readyForQuery: code("Z"),
};
/** Of a message: its letter, and its length, which counts itself. */
const headBytes = 5;

/** Where the server has forgotten a statement, or its tables are others: it is prepared anew, and nothing of it was done. */
const forgotten = new Set(["FetchPreparedStatement", "RevalidateCachedQuery", "transformAssignedExpr"]);

/** By the letters of the protocol; the others are of no use to us. */
const errorFields: Record<string, string> = {
  S: "severity",
  C: "code",
  M: "message",
  D: "detail",
  H: "hint",
  W: "where",
  s: "schema_name",
  t: "table_name",
  n: "constraint_name",
  R: "routine",
};

export class Statements {
  readonly #prepared = new Map<string, Prepared>();
  /** Begins the names of its statements: behind a pooler the server's session may know those of another one. */
  readonly #names = `ws_${crypto.randomUUID().slice(0, 8)}_`;
  #named = 0;

  constructor(
    private readonly wire: Wire,
    private readonly parsers: ColumnParsers,
  ) {}

  /** @throws PostgresError; never settles where the connection ends meanwhile, of which that tells itself */
  async ask<Row extends object>(text: string, parameters: Parameter[]): Promise<Row[]> {
    try {
      return (await this.#exchange(text, parameters)) as Row[];
    } catch (error) {
      if (!forgotten.has((error as { routine?: string }).routine ?? "") || !this.#prepared.delete(text)) throw error;
      return (await this.#exchange(text, parameters)) as Row[];
    }
  }

  #exchange(text: string, parameters: Parameter[]): Promise<object[]> {
    let prepared = this.#prepared.get(text);
    const isNew = prepared?.columns == null;
    // A name is used once: whether the server has it after a failure is not known.
    if (prepared === undefined || isNew) {
      prepared = { name: `${this.#names}${++this.#named}`, columns: null };
      this.#prepared.set(text, prepared);
    }
    const { promise, resolve, reject } = Promise.withResolvers<object[]>();
    const answer = new Answer(prepared, this.parsers, (error, rows) =>
      error === null ? resolve(rows) : reject(error),
    );
    this.wire.ask(question(prepared.name, isNew ? text : null, parameters), answer);
    return promise;
  }
}

/** Written to again and again: what does not fit at once is copied by the wire. */
const scratch = Buffer.allocUnsafe(16 * 1024);
/** In UTF-8, of one unit of a string. */
const unitBytesMax = 3;

/** @param text of a statement that is to be prepared; null: it is */
function question(name: string, text: string | null, parameters: Parameter[]): Buffer {
  const texts = parameters.map((value) => (value === null ? null : String(value)));
  const units = texts.reduce((sum, each) => sum + (each?.length ?? 0), (text?.length ?? 0) + 4 * name.length);
  const bytesMax = units * unitBytesMax + 4 * texts.length + 128;
  // One that is larger than usual is not kept.
  const buffer = bytesMax <= scratch.length ? scratch : Buffer.allocUnsafe(bytesMax);
  let at = 0;
  const message = (letter: number, write: () => void) => {
    buffer[at] = letter;
    const lengthAt = at + 1;
    at += headBytes;
    write();
    buffer.writeInt32BE(at - lengthAt, lengthAt);
  };
  const string = (value: string) => {
    at += buffer.write(value, at, "utf8");
    buffer[at++] = 0;
  };
  const int16 = (value: number) => {
    at = buffer.writeInt16BE(value, at);
  };
  if (text !== null) {
    message(sent.parse, () => {
      string(name);
      string(text);
      int16(0);
    });
    message(sent.describe, () => {
      buffer[at++] = code("S");
      string(name);
    });
  }
  message(sent.bind, () => {
    string("");
    string(name);
    // Everything as text, both ways.
    int16(0);
    int16(texts.length);
    for (const value of texts) {
      const lengthAt = at;
      at += 4;
      if (value !== null) at += buffer.write(value, at, "utf8");
      buffer.writeInt32BE(value === null ? -1 : at - lengthAt - 4, lengthAt);
    }
    int16(0);
  });
  message(sent.execute, () => {
    string("");
    at = buffer.writeInt32BE(0, at);
  });
  message(sent.sync, () => {});
  return buffer.subarray(0, at);
}

/** Reads the answer to one statement, up to where the server is ready for the next. */
class Answer implements Exchange {
  /** The beginning of a message. */
  #rest: Buffer | null = null;
  readonly #rows: object[] = [];
  #error: Error | null = null;

  constructor(
    private readonly prepared: Prepared,
    private readonly parsers: ColumnParsers,
    private readonly settle: (error: Error | null, rows: object[]) => void,
  ) {}

  read(bytes: Buffer): number | null {
    const all = this.#rest === null ? bytes : Buffer.concat([this.#rest, bytes]);
    let at = 0;
    while (all.length - at >= headBytes) {
      const end = at + 1 + all.readUInt32BE(at + 1);
      if (end > all.length) break;
      if (all[at] === told.readyForQuery) {
        this.settle(this.#error, this.#rows);
        return all.length - end;
      }
      this.#note(all, { at, end });
      at = end;
    }
    this.#rest = at < all.length ? all.subarray(at) : null;
    return null;
  }

  #note(bytes: Buffer, { at, end }: { at: number; end: number }): void {
    const from = at + headBytes;
    switch (bytes[at]) {
      case told.dataRow:
        this.#rows.push(this.#row(bytes, from));
        return;
      case told.rowDescription:
        this.prepared.columns = this.#columns(bytes, from);
        return;
      case told.noData:
        this.prepared.columns = [];
        return;
      case told.error:
        // The first: it says why.
        this.#error ??= errorOf(bytes, { from, end });
        return;
    }
  }

  #columns(bytes: Buffer, from: number): Column[] {
    let at = from + 2;
    return Array.from({ length: bytes.readInt16BE(from) }, () => {
      const nameEnd = bytes.indexOf(0, at);
      const name = bytes.toString("utf8", at, nameEnd);
      // Behind the name: the table and its column, then the type; then its size, its modifier and the format.
      const parse = this.parsers[bytes.readUInt32BE(nameEnd + 7)];
      at = nameEnd + 19;
      return { name, parse };
    });
  }

  #row(bytes: Buffer, from: number): object {
    const row: Record<string, unknown> = {};
    let at = from + 2;
    for (const { name, parse } of this.prepared.columns!) {
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
}

function errorOf(bytes: Buffer, { from, end }: { from: number; end: number }): Error {
  const fields: Record<string, string> = {};
  for (let at = from; at < end && bytes[at] !== 0; ) {
    const textEnd = bytes.indexOf(0, at);
    const name = errorFields[String.fromCharCode(bytes[at]!)];
    if (name !== undefined) fields[name] = bytes.toString("utf8", at + 1, textEnd);
    at = textEnd + 1;
  }
  // As the library has them.
  const PostgresError = postgres.PostgresError as unknown as new (fields: object) => Error;
  return new PostgresError(fields);
}
