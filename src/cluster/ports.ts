/** Describes as ports what nodes share and may lose: what cannot be answered without the others rejects with `Unavailable` (part `cluster`). */

import type { AtOnce } from "../ground/at-once.ts";
import type { Inbox } from "../storage/inbox.ts";
import type { LoggedEvent, UserStatus } from "../storage/ports.ts";
import type { BusStats } from "../telemetry/stats.ts";
import type { Call } from "./call.ts";

/** Message of one node to the others about a topic; it may be lost, doubled or late, and the log repairs logged events. */
export type TopicMessage =
  /** `epoch`: the newest that the one who says it knows of; the log may have lost the event since [LOG4]. `traceparent`: of a trace. */
  | { kind: "logged"; event: LoggedEvent; exceptDevice?: string; epoch?: string; traceparent?: string }
  | {
      kind: "ephemeral";
      topic: string;
      id: string;
      type: string;
      /** JSON text of an object. */
      payload: string;
      at: number;
      exceptDevice?: string;
      onlyDevice?: string;
      /** The device's node claims it in the registry before it tells it; one of 0.1 tells it as it is [CALL4]. */
      isOwed?: true;
    };

/** Message of one node to all others, whatever their topics. */
export type ControlMessage =
  /** The device of this connection has a newer one: this one alone closes with 4010, however late it hears [CON3]. */
  | { kind: "replaced"; userId: string; deviceId: string; connectionId: string }
  /** The end of the call is still owed to the device: whoever has it claims it, and tells it [CALL4]. */
  | { kind: "owed"; userId: string; deviceId: string; callId: string }
  /** A question to every node, and one node's answer to it; both are plain JSON data of the survey [ADM1]. */
  | { kind: "question"; questionId: string; from: string; name: string; about: unknown }
  | { kind: "answer"; questionId: string; to: string; from: string; said: unknown };

/** Carries messages to the *other* nodes, quickly and without a promise. Local delivery is the broadcaster's. */
export interface Bus {
  /** To the nodes that watch the topic. Never throws, never waits. */
  publish(topic: string, message: TopicMessage): void;
  /** To all other nodes. */
  broadcast(message: ControlMessage): void;
  /** Resolves once the node hears the topic; null: there is nothing to wait for. */
  watch(topic: string): Promise<void> | null;
  /** Stops hearing topics that have been unwanted for two sweeps, so that one about to be subscribed to is not lost. */
  sweep(isWanted: (topic: string) => boolean): void;
  onTopicMessage(listener: (message: TopicMessage) => void): void;
  onControlMessage(listener: (message: ControlMessage) => void): void;
  /** Messages to and from this node may have been lost since then (ms since 1970): ask the log. */
  onGap(listener: (sinceMs: number) => void): void;
  /** Counts, as `admin.stats` and the metrics show them; a bus that carries nothing has none. */
  stats?(): BusStats;
}

/** A device's own word: present, idle, or occupied. */
export type DeviceStatus = "online" | "away" | "busy";

/** A device as its node sees it. All moments are ms of the registry's clock. */
export interface DevicePresence {
  deviceId: string;
  connectionId: string;
  /** The run of the node that has it; it alone changes or drops it while it lives. */
  run: string;
  status: DeviceStatus;
  /** When the connection came; of two connections of one device the newer one has it [CON3]. */
  connectedAt: number;
  /** Its connection broke off at `since`, and until `until` it may come back unseen [PRE1]. */
  leaving?: { since: number; until: number };
}

/** All that a user's presence is made of; never changed in place. */
export interface PresenceRecord {
  devices: readonly DevicePresence[];
  /** The status set by hand; one that has run out counts as none. */
  byHand: UserStatus | null;
  /** Raised by whoever sets a status by hand, also the same again; none: 0. */
  statusRevision?: number;
  /** When others could last see the user here; null: never, or not known. */
  lastSeenAt: number | null;
}

/** A record as the registry holds it. */
export interface VersionedRecord {
  /** Names the memory that gives the versions: another one where that was lost, and versions began anew. */
  mark: string;
  /** Grows with every change; 0 where there is no record. */
  version: number;
  /** Null: nobody has been here for a while, and the storage knows the status and when that was. */
  record: PresenceRecord | null;
  /** Records are being put back after a loss: devices of other nodes may still be missing in it. */
  isPartial?: boolean;
}

/** Says what a record has become. */
export interface PresenceWord extends VersionedRecord {
  userId: string;
  record: PresenceRecord;
  /** The device whose request caused the change. */
  causeDevice?: string;
}

/** Decides what becomes of a record; pure, as it may be run again. `put: null` leaves it as it is. */
export type PresenceStep<Result> = (record: PresenceRecord | null) => { put: PresenceRecord | null; result: Result };

export interface PresenceTransactOptions {
  /** The record as the caller takes it to be, which saves reading it; `record` may be filled in from the storage where `version` is 0. */
  known?: VersionedRecord | undefined;
  causeDevice?: string | undefined;
}

/** Stands under a user's record, of a run of a node that is dead. */
export interface LeftBehind {
  userId: string;
  run: string;
  /** The run's last sign of life. */
  seenAt: number;
}

/** Holds the one record of each user's presence, which every node adds its own devices to [PRE1]. */
export interface PresenceRegistry {
  /** Names this run of this node, which its devices stand under. */
  readonly run: string;
  /** Its clock (ms), as far as this node can tell: nodes agree on it better than on their own. */
  now(): number;
  /**
   * Runs `step` on the user's record, alone over all nodes, stores what it puts under the next version and, in the same
   * step, says so to the nodes that listen: those that watch `presence:<user>`, and those that watch `user:<user>`.
   * A record without devices stays for two minutes at least. Where the record is not the one that is `known` any
   * more `step` runs again on that, with null where there is none.
   * @throws Unavailable where it is away; it may have been stored all the same
   */
  transact<Result>(
    userId: string,
    step: PresenceStep<Result>,
    options?: PresenceTransactOptions,
  ): AtOnce<{ now: VersionedRecord; result: Result }>;
  /** Users of whom nothing can be known now are not in the answer: it is away, or records are being put back after a loss. Never rejects for that. */
  read(userIds: string[]): AtOnce<Map<string, VersionedRecord>>;
  /** Called with words of this and other nodes, in whatever order; some are lost, and then the bus says that there was a gap. */
  onWord(listener: (word: PresenceWord) => void): void;
  /** Called where it may have lost what was written (came back, came back empty, another master): to be contributed and read again. */
  onLoss(listener: () => void): void;
  /** Users under whose record something of this run stands. @throws Unavailable */
  ownUsers(): Promise<string[]>;
  /**
   * Calls `remove` for each user under whose record something of a run of a node stands that is dead, some at once, and
   * forgets the run once all have resolved.
   * @returns whether it has looked, which it does not while the registry is away
   */
  sweep(remove: (left: LeftBehind) => Promise<void>): Promise<boolean>;
  /** @throws Unavailable */
  stats(): Promise<{ users: number; devices: number }>;
}

/** So long (ms) has the caller of `takeDue` for a call before another one is given it. */
export const dueLeaseMs = 5_000;

/** The calls that are on. */
export interface CallRegistry {
  /**
   * Runs `step` on the calls between and of the users it names, alone over all nodes, and stores what it returns.
   * `step` is pure: it may be run again. A call in `calls` is every call in which one of `userIds` takes part and the one
   * of `callId`, ended ones included for as long as they are kept. Calls named in `forget` are removed.
   * Where `step` throws, nothing is stored and the promise rejects with what it threw.
   */
  transact<Result>(
    key: { callId: string; userIds: string[] },
    step: (calls: Call[]) => { put: Call[]; forget?: string[]; result: Result },
  ): Promise<Result>;
  get(callId: string): Promise<Call | null>;
  callsOf(userId: string): AtOnce<Call[]>;
  /**
   * Ids of calls whose deadline (`Call.deadline`, ms) has come, the earliest first. Each is given to one caller, and
   * again after `dueLeaseMs` where nobody has put or forgotten the call until then.
   */
  takeDue(now: number, limit: number): Promise<string[]>;
  /** Ids of the calls that end with this node; a registry that outlives it has none, and no such method [CALL5]. */
  endingWithNode?(): string[];
  stats(): Promise<{ calls: number }>;
}

export interface NodeInfo {
  nodeId: string;
  startedAt: number;
  /** Milliseconds since 1970 of the last sign of life. */
  seenAt: number;
  connections: number;
  version: string;
}

export interface SignsOfLife {
  at: Map<string, number>;
  /** False: nodes may live that had no way to say so until just now. */
  isSettled: boolean;
}

export interface NodeRegistry {
  /** Every node, this one among them; while the others cannot be asked, as they were last known. */
  list(): Promise<NodeInfo[]>;
  /** Called from time to time with this node's own figures. */
  beat(connections: number): Promise<void>;
  /**
   * Tells when runs of nodes last said that they live, ms by the presence registry's clock; of this one, and of those that
   * are dead for long, it need not know. @throws Unavailable
   */
  signs(): Promise<SignsOfLife>;
}

export interface Cluster {
  nodeId: string;
  bus: Bus;
  presence: PresenceRegistry;
  calls: CallRegistry;
  nodes: NodeRegistry;
  /** Entries that applications add to a stream, where there is one [PUB2]; started by its reader. */
  stream?: Inbox;
  start(): Promise<void>;
  /** Resolves while the connection is up, subscribed and not deaf. */
  ping(): Promise<void>;
  stop(): Promise<void>;
}
