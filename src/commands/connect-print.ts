/** Writes messages as lines for people, one each. */
import { isPlainObject } from "../protocol/envelope.ts";
import { visible } from "../telemetry/visible.ts";
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
