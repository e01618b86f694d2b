/** Declares what a wire format must do, and does it for JSON. */
import { momentText } from "../ground/moments.ts";
import { isPlainObject, type OutgoingMessage } from "./envelope.ts";
import { ProtocolError } from "./errors.ts";
import { beyondShape, textsAtEdges } from "./json-text.ts";
import { limits } from "./limits.ts";

/** Sees of a client's frame what can be seen without decoding it; neither is sure. */
export interface Glimpse {
  id?: string | undefined;
  type?: string | undefined;
}

export interface Codec {
  /** A frame ready to send: text for JSON, bytes for a binary format. */
  encode(message: OutgoingMessage): string | Uint8Array;
  /**
   * The envelope of a client's frame as plain data, not validated yet.
   * @throws ProtocolError `invalid_json` or `invalid_message`
   */
  decode(frame: string | Uint8Array): Record<string, unknown>;
  /** Takes no longer for a large frame than for a small one; nothing is found where the frame is unusual. */
  glimpse(frame: string | Uint8Array): Glimpse;
}

export const jsonCodec: Codec = {
  encode({ id, type, payload, at, replyTo, topic, seq, position }) {
    let text = `{"id":${JSON.stringify(id)},"type":"${type}"`;
    if (replyTo !== undefined) text += `,"reply_to":${JSON.stringify(replyTo)}`;
    if (topic !== undefined && seq !== undefined) {
      text += `,"topic":${JSON.stringify(topic)},"seq":${seq},"position":${position}`;
    }
    return `${text},"timestamp":"${momentText(at)}","payload":${payload}}`;
  },

  decode(frame) {
    if (typeof frame !== "string")
      throw new ProtocolError("invalid_message", "This connection speaks JSON in text frames.");
    const beyond = beyondShape(frame, { depth: limits.jsonDepth, values: limits.jsonValues });
    if (beyond !== null) throw new ProtocolError("invalid_json", shapeFaults[beyond]);
    let value: unknown;
    try {
      value = JSON.parse(frame);
    } catch {
      throw new ProtocolError("invalid_json", "This is not JSON.");
    }
    if (!isPlainObject(value)) throw new ProtocolError("invalid_message", "A message is a JSON object.");
    return value;
  },

  glimpse(frame) {
    if (typeof frame !== "string") return {};
    const texts = textsAtEdges(frame);
    return { id: texts.get("id"), type: texts.get("type") };
  },
};

const shapeFaults = {
  depth: `JSON may be nested at most ${limits.jsonDepth} deep.`,
  values: `A message may have at most ${limits.jsonValues} values.`,
};
