/** Holds what pages are made of: tables that become cards on a phone, notices, and actions that are confirmed. */
import { type FormEvent, type ReactNode, useId, useRef, useState } from "react";
import { pathTo, type Turns, useSession } from "./hooks.ts";
import { type Ask, sentenceOfError } from "./session.ts";

export interface Column<Row> {
  name: string;
  isNumber?: boolean;
  show: (row: Row) => ReactNode;
}

export function Table<Row>({
  columns,
  rows,
  keyOf,
  empty,
  label,
}: {
  columns: Column<Row>[];
  rows: readonly Row[];
  keyOf: (row: Row) => string;
  /** Said where there are none. */
  empty: string;
  label: string;
}) {
  if (rows.length === 0) return <p className="empty">{empty}</p>;
  return (
    <table className="table" aria-label={label}>
      <thead>
        <tr>
          {columns.map(({ name, isNumber }) => (
            <th key={name} scope="col" className={isNumber ? "number" : undefined}>
              {name}
            </th>
          ))}
        </tr>
      </thead>
      <tbody>
        {rows.map((row) => (
          <tr key={keyOf(row)}>
            {columns.map(({ name, isNumber, show }) => (
              <td key={name} data-name={name} className={isNumber ? "number" : undefined}>
                {show(row)}
              </td>
            ))}
          </tr>
        ))}
      </tbody>
    </table>
  );
}

export function Pages({ isFirst, next, onBack, onNext }: Turns) {
  if (isFirst && next === null) return null;
  return (
    <p className="pages">
      <button type="button" disabled={isFirst} onClick={onBack}>
        Back
      </button>
      <button type="button" disabled={next === null} onClick={() => onNext(next!)}>
        More
      </button>
    </p>
  );
}

/** Says what went wrong, and which nodes an answer is without. */
export function Notices({ error, missing }: { error: string | null; missing?: readonly string[] | undefined }) {
  return (
    <>
      {error !== null && (
        <p role="alert" className="notice bad">
          {error}
        </p>
      )}
      {missing !== undefined && missing.length > 0 && (
        <p role="status" className="notice">
          Without an answer of: {missing.join(", ")}
        </p>
      )}
    </>
  );
}

export interface Field {
  name: string;
  label: string;
  value?: string;
  isOptional?: boolean;
}

/** Shows a button that opens a form, whose own button does what it says; then it says what came of it. */
export function Action({
  label,
  question,
  fields = [],
  act,
  isDanger = false,
}: {
  label: string;
  question: string;
  fields?: Field[];
  /** @returns what is said when it is done */
  act: (ask: Ask, values: Record<string, string>) => Promise<string>;
  isDanger?: boolean;
}) {
  const { connection } = useSession();
  const dialog = useRef<HTMLDialogElement>(null);
  const heading = useId();
  const [outcome, setOutcome] = useState<{ text: string; isBad: boolean } | null>(null);
  const [isBusy, setBusy] = useState(false);

  async function submit(event: FormEvent<HTMLFormElement>): Promise<void> {
    event.preventDefault();
    const entries = [...new FormData(event.currentTarget)].map(([name, value]) => [name, String(value).trim()]);
    setBusy(true);
    try {
      const text = await act((type, payload) => connection.request(type, payload), Object.fromEntries(entries));
      setOutcome({ text, isBad: false });
    } catch (error) {
      setOutcome({ text: sentenceOfError(error), isBad: true });
    }
    setBusy(false);
    dialog.current?.close();
  }

  return (
    <span className="action">
      <button type="button" className={isDanger ? "danger" : undefined} onClick={() => dialog.current?.showModal()}>
        {label}
      </button>
      {outcome !== null && (
        <span role="status" className={outcome.isBad ? "bad" : "good"}>
          {outcome.text}
        </span>
      )}
      <dialog ref={dialog} aria-labelledby={heading}>
        <form onSubmit={submit}>
          <h2 id={heading}>{question}</h2>
          {fields.map(({ name, label: text, value, isOptional }) => (
            <label key={name}>
              {text}
              <input name={name} defaultValue={value ?? ""} required={!isOptional} autoComplete="off" />
            </label>
          ))}
          <menu>
            <button type="button" onClick={() => dialog.current?.close()}>
              Cancel
            </button>
            <button type="submit" className={isDanger ? "danger" : "primary"} disabled={isBusy}>
              {label}
            </button>
          </menu>
        </form>
      </dialog>
    </span>
  );
}

/** Asks for one value and hands it over. */
export function Search({
  label,
  value,
  children,
  onSearch,
}: {
  label: string;
  value: string;
  children?: ReactNode;
  onSearch: (values: Record<string, string>) => void;
}) {
  return (
    <search>
      <form
        className="search"
        onSubmit={(event) => {
          event.preventDefault();
          const entries = [...new FormData(event.currentTarget)].map(([name, text]) => [name, String(text).trim()]);
          onSearch(Object.fromEntries(entries));
        }}
      >
        {children}
        {/* Another search is another field: what was typed for the last one does not stay. */}
        <input key={value} type="search" name="text" aria-label={label} placeholder={label} defaultValue={value} />
        <button type="submit" className="primary">
          Search
        </button>
      </form>
    </search>
  );
}

export const UserLink = ({ id }: { id: string | null }) =>
  id === null ? <em>nobody yet</em> : <a href={pathTo("users", id)}>{id}</a>;
export const ConnectionLink = ({ id }: { id: string }) => (
  <a href={pathTo("connections", id)} className="id">
    {id}
  </a>
);
export const TopicLink = ({ name }: { name: string }) => <a href={pathTo("topics", name)}>{name}</a>;
export const NodeLink = ({ id }: { id: string }) => <a href={pathTo("nodes", id)}>{id}</a>;

/** `12:03:07`, with the day where that is not today. */
export function Moment({ at }: { at: string }) {
  const date = new Date(at);
  const time = date.toLocaleTimeString([], { hour12: false });
  const isToday = date.toDateString() === new Date().toDateString();
  return <time dateTime={at}>{isToday ? time : `${date.toLocaleDateString()} ${time}`}</time>;
}

export const count = (value: number): string => value.toLocaleString();
export const plural = (number: number, one: string): string => `${count(number)} ${one}${number === 1 ? "" : "s"}`;

export function bytes(value: number): string {
  if (value < 1_024) return `${value} B`;
  const [amount, unit] = value < 1_024 ** 2 ? [value / 1_024, "KiB"] : [value / 1_024 ** 2, "MiB"];
  return `${amount.toFixed(amount < 10 ? 1 : 0)} ${unit}`;
}
