/** Decides what is compressed on the wire: who may agree on it, which frames are worth it, and what one event or one client may cost by it. */
import type { WebSocketHandler } from "bun";
import type { EncodedFrame } from "../broadcast/ports.ts";
import type { Config } from "../config/schema.ts";
import { limits } from "../protocol/limits.ts";
import type { Connection } from "./connection.ts";

export interface Compression {
  /** Told to the platform. */
  perMessageDeflate: WebSocketHandler<Connection>["perMessageDeflate"];
  /** Whether a connection may agree on it. */
  allows(connection: Connection, now: number): boolean;
  /** Whether a frame goes out compressed to so many sockets. */
  pays(frame: EncodedFrame, sockets: () => number): boolean;
  /** Counts what came in, as it was before it was compressed. @returns whether its user has sent more than anybody may by far */
  noteReceived(connection: Connection, bytes: number, now: number): boolean;
}

/** Bytes of large messages, since when. */
interface ReceivedBytes {
  since: number;
  bytes: number;
}

const perMessageDeflate = {
  off: false,
  shared: { compress: "shared", decompress: "shared" },
  // A larger window takes up to twice the memory and the time, and saves chat some percent more. What clients send is short.
  dedicated: { compress: "16KB", decompress: "shared" },
} as const;

const periodMs = 60_000;
/** So many times what the rate limit lets through: who waits as told, or is refused now and then, never gets there. */
const timesTheRate = 4;

export function createCompression({ websocket, rate_limits: rates }: Config): Compression {
  const { compression: mode, compression_threshold: threshold, compression_work_max: workMax } = websocket;
  const isOn = mode !== "off";
  const ratePerMinute = rates.bytes.per_minute ?? 4 * websocket.max_message_size;
  /** By user, for coming back must not begin it anew; the oldest first. */
  const received = new Map<string, ReceivedBytes>();
  const receivedMax = isOn && rates.enabled ? timesTheRate * ratePerMinute : Number.POSITIVE_INFINITY;

  const isOver = (userId: string) => (received.get(userId)?.bytes ?? 0) > receivedMax;

  function forgetOld(now: number): void {
    for (const [userId, { since }] of received) {
      if (now >= since && now - since < periodMs) return;
      received.delete(userId);
    }
  }

  return {
    perMessageDeflate: perMessageDeflate[mode],

    allows({ session }, now) {
      forgetOld(now);
      // The platform inflates up to one size for all, and who is anonymous may send far less than that.
      return isOn && session !== null && !isOver(session.userId);
    },

    pays(frame, sockets) {
      if (!isOn) return false;
      const bytes = typeof frame === "string" ? Buffer.byteLength(frame) : frame.byteLength;
      // The platform compresses a published frame for each socket anew, and nothing else is done meanwhile.
      return bytes >= threshold && bytes <= workMax && bytes * sockets() <= workMax;
    },

    noteReceived({ session, userId: liveUserId }, bytes, now) {
      if (receivedMax === Number.POSITIVE_INFINITY || bytes <= limits.ordinaryMessageBytes) return false;
      forgetOld(now);
      const userId = session?.userId ?? liveUserId;
      // The anonymous have agreed on nothing.
      if (userId === "") return false;
      const { since, bytes: before } = received.get(userId) ?? { since: now, bytes: 0 };
      received.set(userId, { since, bytes: before + bytes });
      return isOver(userId);
    },
  };
}
