/** What a wire format must do, and the JSON one. */
import { isPlainObject, type OutgoingMessage } from "./envelope.ts";
import { ProtocolError } from "./errors.ts";
import { limits } from "./limits.ts";

export interface Codec {
  /** A frame ready to send: text for JSON, bytes for a binary format. */
  encode(message: OutgoingMessage): string | Uint8Array;
  /**
   * The envelope of a client's frame as plain data, not validated yet.
   * @throws ProtocolError `invalid_json` or `invalid_message`
   */
  decode(frame: string | Uint8Array): Record<string, unknown>;
}

export const jsonCodec: Codec = {
  encode({ id, type, payload, at, replyTo, topic, seq, position }) {
    let text = `{"id":${JSON.stringify(id)},"type":"${type}"`;
    if (replyTo !== undefined) text += `,"reply_to":${JSON.stringify(replyTo)}`;
    if (topic !== undefined && seq !== undefined) {
      text += `,"topic":${JSON.stringify(topic)},"seq":${seq},"position":${position}`;
    }
    return `${text},"timestamp":"${new Date(at).toISOString()}","payload":${payload}}`;
  },

  decode(frame) {
    if (typeof frame !== "string")
      throw new ProtocolError("invalid_message", "This connection speaks JSON in text frames.");
    if (isDeeperThan(frame, limits.jsonDepth)) {
      throw new ProtocolError("invalid_json", `JSON may be nested at most ${limits.jsonDepth} deep.`);
    }
    let value: unknown;
    try {
      value = JSON.parse(frame);
    } catch {
      throw new ProtocolError("invalid_json", "This is not JSON.");
    }
    if (!isPlainObject(value)) throw new ProtocolError("invalid_message", "A message is a JSON object.");
    return value;
  },
};

/** Whether the JSON text nests arrays and objects deeper than `most`; looks at the text alone, before any parser does. */
export function isDeeperThan(text: string, most: number): boolean {
  // A text with few brackets cannot be deep; this is the case for nearly every message.
  if (text.length <= most) return false;
  let depth = 0;
  let inString = false;
  for (let index = 0; index < text.length; index++) {
    const code = text.charCodeAt(index);
    if (inString) {
      if (code === 92) index++;
      else if (code === 34) inString = false;
    } else if (code === 34) inString = true;
    else if (code === 123 || code === 91) {
      if (++depth > most) return true;
    } else if (code === 125 || code === 93) depth--;
  }
  return false;
}
