/** Says of a message what the page shows of it: its text, and how far it has come. */
import type { Message } from "ws-service/client";
import type { TickState } from "./Icon.tsx";
import { firstNameOf, type Room } from "./people.ts";

export function textOf({ content }: Message): string {
  if (content === null) return "Message deleted";
  return typeof content === "string" ? content : JSON.stringify(content);
}

interface Seen {
  receipts: readonly { userId: string; readSeq: number; deliveredSeq: number }[];
  room: Room;
  me: string;
}

/** It has reached somebody when it has reached all: the detail names who has read it before that. */
export function tickOf({ state, seq }: Message, { receipts, room, me }: Seen): { state: TickState; detail?: string } {
  if (state !== "sent" || seq === null) return { state: state === "failed" ? "failed" : "pending" };
  const others = room.members.filter((it) => it !== me);
  const of = (userId: string) => receipts.find((it) => it.userId === userId);
  const read = others.filter((it) => (of(it)?.readSeq ?? 0) >= seq);
  const delivered = others.filter((it) => (of(it)?.deliveredSeq ?? 0) >= seq);
  const isGroup = others.length > 1;
  const detail = isGroup && read.length > 0 ? { detail: `Read by ${read.map(firstNameOf).join(", ")}` } : {};
  if (others.length > 0 && read.length === others.length) return { state: "read", ...detail };
  if (others.length > 0 && delivered.length === others.length) return { state: "delivered", ...detail };
  return { state: "sent", ...detail };
}
