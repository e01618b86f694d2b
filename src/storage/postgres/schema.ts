/** Lists the steps that make and upgrade the schema; each one's SQL stands in `schema/`, under its number. */
import { sqlOf } from "../sql-text.ts";
import directoryFunctions from "./schema/01-directory.sql" with { type: "text" };
import logFunctions from "./schema/01-log.sql" with { type: "text" };
import tables from "./schema/01-tables.sql" with { type: "text" };
import outbox from "./schema/02-outbox.sql" with { type: "text" };
import reading from "./schema/03-reading.sql" with { type: "text" };
import receiptClaims from "./schema/04-receipt-claims.sql" with { type: "text" };
import keys from "./schema/05-keys.sql" with { type: "text" };
import installation from "./schema/06-installation.sql" with { type: "text" };
import rights from "./schema/07-rights.sql" with { type: "text" };
import append from "./schema/08-append.sql" with { type: "text" };
import appendOnly from "./schema/08-append-only.sql" with { type: "text" };
import appendOnlyReading from "./schema/08-reading.sql" with { type: "text" };
import retention from "./schema/08-retention.sql" with { type: "text" };
import joining from "./schema/09-joining.sql" with { type: "text" };
import epochs from "./schema/10-epochs.sql" with { type: "text" };
import cursors from "./schema/11-cursors.sql" with { type: "text" };
import present from "./schema/12-present.sql" with { type: "text" };
import messages from "./schema/13-messages.sql" with { type: "text" };
import members from "./schema/14-members.sql" with { type: "text" };
import push from "./schema/15-push.sql" with { type: "text" };
import erasures from "./schema/16-erasures.sql" with { type: "text" };
import conversations from "./schema/17-conversations.sql" with { type: "text" };
import outboxExcept from "./schema/18-outbox-except.sql" with { type: "text" };
import lists from "./schema/19-lists.sql" with { type: "text" };
import acknowledgements from "./schema/20-acknowledgements.sql" with { type: "text" };
import appending from "./schema/20-append.sql" with { type: "text" };
import appendingOne from "./schema/20-append-one.sql" with { type: "text" };
import receipts from "./schema/20-receipts.sql" with { type: "text" };
import marks from "./schema/21-marks.sql" with { type: "text" };

/** A step that was released is never edited; a new one is added at the end. Each is given the schema's name. */
export const steps: ((ws: string) => string)[] = [
  [tables, logFunctions, directoryFunctions],
  [outbox],
  [reading],
  [receiptClaims],
  [keys],
  [installation],
  [rights],
  [appendOnly, append, appendOnlyReading, retention],
  [joining],
  [epochs],
  [cursors],
  [present],
  [messages],
  [members],
  [push],
  [erasures],
  [conversations],
  [outboxExcept],
  [lists],
  [receipts, acknowledgements, appending, appendingOne],
  [marks],
].map((files) => (ws) => files.map((file) => sqlOf(file, { ws })).join(""));

/** The version that this build writes and reads. */
export const schemaVersion = steps.length;

/** Made before its step, while the service still runs on the schema of before. */
export const eventsByPosition = "events_by_position";

/** The channel on which the directory's triggers tell nodes of changes. */
export const directoryChannel = (ws: string) => `${ws}_directory`;

/** The channel that is notified with every statement that leaves something in the outbox. */
export const outboxChannel = (ws: string) => `${ws}_outbox`;
