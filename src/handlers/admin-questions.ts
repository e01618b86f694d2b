/** Lists the questions that nodes ask each other for an operator, as plain data [ADM1]. */
import type { ConnectionView, NodeHealth } from "../protocol/admin.ts";
import type { Sample } from "../telemetry/samples.ts";
import type { AnyStats } from "../telemetry/stats.ts";

export type { ConnectionView, NodeHealth } from "../protocol/admin.ts";

/** Which connections are meant: all conditions that are given hold. */
export interface ConnectionMatch {
  userId?: string | undefined;
  connectionId?: string | undefined;
  deviceId?: string | undefined;
}

export type AdminQuestions = {
  stats: { about: null; said: AnyStats };
  /** Gives those that began after `after`, ms since 1970. */
  samples: { about: { after: number }; said: Sample[] };
  /** A page in the order of connection ids, the lowest `limit` above `after`. */
  connections: {
    about: {
      userId?: string | undefined;
      deviceId?: string | undefined;
      address?: string | undefined;
      after: string;
      limit: number;
    };
    said: { connections: ConnectionView[]; total: number };
  };
  connection: {
    about: { connectionId: string };
    said: { connection: ConnectionView; topics: string[]; topicCount: number } | null;
  };
  /**
   * Begins to show what a connection receives and sends, on the topic of the watch, for some seconds from each time that it is asked;
   * null where the connection is not here. `closed`: with which code it was closed since.
   */
  watch: {
    about: { watchId: string; connectionId: string; payloads: boolean; by: string };
    said: { connection: ConnectionView; closed: number | null } | null;
  };
  unwatch: { about: { watchId: string }; said: null };
  /** Closes with 4011. `except`: a connection that is left for its own node to close. */
  disconnect: {
    about: { match: ConnectionMatch; reason: string; except?: string | undefined };
    said: { disconnected: number };
  };
  /** The lowest `limit` names above `after` that somebody on the node is subscribed to. */
  topics: {
    about: { prefix: string; after: string; limit: number };
    said: { topic: string; subscribers: number }[];
  };
  topic: {
    about: { topic: string; limit: number };
    said: { subscribers: number; connections: { connectionId: string; userId: string; deviceId: string }[] };
  };
  /** For every connection of a user, as if it had asked itself. */
  subscribe: {
    about: { userId: string; topics: string[] };
    said: { connectionId: string; topics: string[]; rejected: { topic: string; code: string }[] }[];
  };
  unsubscribe: {
    about: { userId: string; topics: string[] };
    said: { connectionId: string; topics: string[] }[];
  };
  hello: { about: null; said: { connections: number; health: NodeHealth } };
};
