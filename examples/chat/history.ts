/** Reads what was said before the demo begins, from `history.txt`. */
import { readFileSync } from "node:fs";
import { join } from "node:path";

export interface Said {
  id: string;
  conversationId: string;
  senderId: string;
  text: string;
  /** Milliseconds since 1970. */
  at: number;
  isEdited: boolean;
  isDeleted: boolean;
  reactions: { reaction: string; userIds: string[] }[];
}

/** @param now milliseconds since 1970: what its days and minutes count from @returns oldest first, over all conversations */
export function readHistory(now: number): Said[] {
  const all: Said[] = [];
  let conversationId = "";
  let at = 0;
  for (const line of readFileSync(join(import.meta.dirname, "history.txt"), "utf8").split("\n")) {
    const [, heading] = /^# (\S+)$/.exec(line) ?? [];
    const [, days, hours, minutes] = /^@ (-?\d+)(?: (\d\d):(\d\d))?$/.exec(line) ?? [];
    const [, senderId, rest] = /^(\w+): (.*)$/.exec(line) ?? [];
    if (heading !== undefined) conversationId = heading;
    else if (days !== undefined)
      at =
        hours === undefined
          ? now + Number(days) * 60_000
          : momentOf(now, Number(days), [Number(hours), Number(minutes)]);
    else if (senderId !== undefined && conversationId !== "") {
      const id = `history-${conversationId}-${all.length}`;
      all.push({ id, conversationId, senderId, at, ...parse(rest!) });
      at += 20_000 + rest!.length * 400;
    }
  }
  return all.sort((one, other) => one.at - other.at);
}

function momentOf(now: number, daysAgo: number, [hours, minutes]: [number, number]): number {
  const day = new Date(now);
  day.setDate(day.getDate() - daysAgo);
  return day.setHours(hours, minutes, 0, 0);
}

/** `Ha {😂 anna ben}` */
function parse(line: string): Pick<Said, "text" | "isEdited" | "isDeleted" | "reactions"> {
  const notes = [...line.matchAll(/ \{([^}]*)\}/g)].map(([, note]) => note!);
  const words = notes.filter((it) => !["edited", "deleted"].includes(it)).map((it) => it.split(" "));
  return {
    text: line.replace(/ \{[^}]*\}/g, ""),
    isEdited: notes.includes("edited"),
    isDeleted: notes.includes("deleted"),
    reactions: words.map(([reaction, ...userIds]) => ({ reaction: reaction!, userIds })),
  };
}
