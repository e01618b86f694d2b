/** Writes messages as lines for people, one each. */
import { isPlainObject } from "../protocol/envelope.ts";
import type { Message } from "./connect-session.ts";

export type Paint = (style: "event" | "reply" | "error" | "note", text: string) => string;

const styles = { event: "36", reply: "32", error: "31", note: "2" } as const;

/** Colours where the output is a terminal and nobody has said NO_COLOR. */
export function paintFor(output: object, env: Record<string, string | undefined>): Paint {
  const isColoured = "isTTY" in output && output.isTTY === true && !env.NO_COLOR;
  return isColoured ? (style, text) => `\x1b[${styles[style]}m${text}\x1b[0m` : (_style, text) => text;
}

/** `message.new conversation:c1 #12 {…}`, with the request's id on replies. */
export function lineFor(message: Message, paint: Paint): string {
  const { type, topic, seq, reply_to, payload } = message;
  const style = type === "error" || type === "auth.failed" ? "error" : reply_to === undefined ? "event" : "reply";
  const place = [
    reply_to === undefined ? "" : `(${reply_to})`,
    topic === undefined ? "" : `${topic}${seq === undefined ? "" : ` #${seq}`}`,
  ];
  const head = [paint(style, visible(String(type))), ...place.map(visible)].filter(Boolean).join(" ");
  return `${head} ${visible(isPlainObject(payload) ? JSON.stringify(payload) : String(payload))}\n`;
}

/** What others wrote must not steer the terminal: control and direction characters are spelled out. */
export function visible(text: string): string {
  return text.replace(
    /[\p{Cc}\u200e\u200f\u2028-\u202e\u2066-\u2069]/gu,
    (it) => `\\u${it.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}
