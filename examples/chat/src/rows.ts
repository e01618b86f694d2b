/** Lays messages out: where a day begins, where the unread ones do, and which of them belong together. */
import type { Message } from "ws-service/client";
import { isSameDay } from "./time.ts";

export interface Row {
  message: Message;
  /** The line stands above it. */
  beginsUnread: boolean;
  /** Of those by one person that belong together. */
  isFirst: boolean;
  isLast: boolean;
}

export interface Day {
  /** The same, however much of it is loaded. */
  key: string;
  /** Some moment of it, RFC 3339. */
  moment: string;
  rows: Row[];
}

/** Said by one person within so long they are drawn as one. */
const togetherMs = 5 * 60_000;

/** @param unreadAfter others' messages above this `seq` are new; null: none is */
export function daysOf(messages: readonly Message[], unreadAfter: number | null): Day[] {
  const days: Day[] = [];
  let isMarked = unreadAfter === null;
  messages.forEach((message, at) => {
    const [before, after] = [messages[at - 1], messages[at + 1]];
    const beginsUnread = !isMarked && !message.isOwn && message.seq !== null && message.seq > unreadAfter!;
    isMarked ||= beginsUnread;
    const isFirst = beginsUnread || !areTogether(before, message);
    const row = { message, beginsUnread, isFirst, isLast: !areTogether(message, after) };
    if (before !== undefined && isSameDay(before.createdAt, message.createdAt)) days.at(-1)!.rows.push(row);
    else days.push({ key: new Date(message.createdAt).toDateString(), moment: message.createdAt, rows: [row] });
  });
  return days;
}

const areTogether = (one: Message | undefined, other: Message | undefined) =>
  one !== undefined &&
  other !== undefined &&
  one.senderId === other.senderId &&
  isSameDay(one.createdAt, other.createdAt) &&
  Date.parse(other.createdAt) - Date.parse(one.createdAt) < togetherMs;
