/** Defines what it takes to bring a connection level with the log, and where on its topics it is then [LOG5]. */
import type { OwnSent } from "../broadcast/own-sent.ts";
import type { Sequencer } from "../broadcast/sequencer.ts";
import type { StartingPoint } from "./starting-point.ts";
import type { Subscriber } from "./subscriber.ts";

export interface TopicPlace {
  seq: number;
  replayed: number;
  /** False: retention had removed events after the cursor, or the log is another one. Undefined: nothing was asked for. */
  recovered: boolean | undefined;
}

/** By topic. */
export type Places = Map<string, TopicPlace>;

export interface CatchUpRequest {
  subscriber: Subscriber;
  topics: string[];
  /** Null: start at the head. */
  since: StartingPoint | null;
  /** Topics taken back meanwhile; they are not subscribed. */
  revoked: Set<string>;
  /** Told of the characters of each payload that is replayed. */
  onReplayed?: (characters: number) => void;
}

/** Gives what this node has published, and keeps. */
export interface Live {
  sequencer: Sequencer;
  ownSent?: OwnSent;
  /** Whether this node alone appends to the log. */
  isAlone?: boolean;
}
