/** Defines an event of the log as it is read. */
import type { Frames, OutgoingMessage } from "../protocol/envelope.ts";

/** A logged event as it is stored and published [LOG1]. */
export interface LoggedEvent {
  topic: string;
  /** 1, 2, 3 … within the topic. */
  seq: number;
  /** One strictly growing number over all topics, growing with `seq` within one; some are never given to an event. */
  position: number;
  /** Stable: a replayed event has the id it first had. */
  id: string;
  type: string;
  /** JSON text of an object; of a message as it is today: edited or deleted, with its reactions [MSG2] [MSG3]. */
  payload: string;
  /** Milliseconds since 1970. */
  createdAt: number;
  /** Under which it stands for older events of its topic [LOG7]: known of one that was published, not of one that was read. */
  compactionKey?: string;
  /** Of one that is sent to many, one by one. */
  frames?: Frames;
}

/** As one connection is sent it. */
export const messageOf = ({
  id,
  type,
  payload,
  createdAt: at,
  topic,
  seq,
  position,
  frames,
}: LoggedEvent): OutgoingMessage => ({ id, type, payload, at, topic, seq, position, frames });
