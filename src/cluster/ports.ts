/** Describes as ports what nodes share and may lose: what cannot be answered without the others rejects with `Unavailable` (part `cluster`). */

import type { Inbox } from "../storage/inbox.ts";
import type { LoggedEvent } from "../storage/ports.ts";
import type { BusStats } from "../telemetry/stats.ts";
import type { Call } from "./call.ts";

/** What one node tells the others about a topic; it may be lost, doubled or late, and the log repairs logged events. */
export type TopicMessage =
  /** `epoch`: the newest that the one who says it knows of; the log may have lost the event since [LOG4]. */
  | { kind: "logged"; event: LoggedEvent; exceptDevice?: string; epoch?: string }
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

/** What one node tells all others, whatever their topics. */
export type ControlMessage =
  /** The device of this connection has a newer one: this one alone closes with 4010, however late it hears [CON3]. */
  | { kind: "replaced"; userId: string; deviceId: string; connectionId: string }
  /** The one who says it may have missed what was said since (ms since the epoch), or not have been heard. */
  | { kind: "gap"; sinceMs: number }
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
  /** Resolves once the node hears the topic. */
  watch(topic: string): Promise<void>;
  /** Stops hearing topics that have been unwanted for two sweeps, so that one about to be subscribed to is not lost. */
  sweep(isWanted: (topic: string) => boolean): void;
  onTopicMessage(listener: (message: TopicMessage) => void): void;
  onControlMessage(listener: (message: ControlMessage) => void): void;
  /** Messages to and from this node may have been lost since then (ms since the epoch): ask the log. */
  onGap(listener: (sinceMs: number) => void): void;
  /** Counts, as `admin.stats` and the metrics show them; a bus that carries nothing has none. */
  stats?(): BusStats;
}

/** What a device says of itself: present, idle, or occupied. */
export type DeviceStatus = "online" | "away" | "busy";

export interface DevicePresence {
  userId: string;
  deviceId: string;
  connectionId: string;
  nodeId: string;
  status: DeviceStatus;
  connectedAt: number;
}

/** Who is connected where [PRE1]. A device has one entry; the newest connection owns it. */
export interface PresenceRegistry {
  /**
   * Puts the device's entry in place of an older one.
   * Refuses (`added: false`) where the user would have more than `devicesMax` devices.
   */
  add(
    entry: DevicePresence,
    devicesMax: number,
  ): Promise<{ added: boolean; first: boolean; replaced: DevicePresence | null }>;
  /** Changes the status of a device where `connectionId` still owns it. */
  update(entry: { userId: string; deviceId: string; connectionId: string; status: DeviceStatus }): Promise<boolean>;
  /** Takes the device away where `connectionId` still owns it; `last`: the user has no device left. */
  remove(entry: {
    userId: string;
    deviceId: string;
    connectionId: string;
  }): Promise<{ removed: boolean; last: boolean }>;
  devicesOf(userIds: string[]): Promise<Map<string, DevicePresence[]>>;
  /** Takes away the devices of dead nodes; each user who is left without any is returned to one caller only. */
  sweep(): Promise<string[]>;
  /** Whether `devicesOf` has just spoken of these for all nodes; false while others cannot be asked. Without it: always. */
  isWhole?(userIds: string[]): boolean;
  /** False while a node that was there may not have put back what was lost: who seems to be gone may be on it. */
  isSettled?(): boolean;
  /** Called with the users of whom the registry had not what is so, and has again: some had been lost, or had come back with a loss. */
  onRestored?(listener: (userIds: string[]) => void): void;
  /** Called with devices of this node that have a newer connection on another one, where it was not told in time [CON3]. */
  onSuperseded?(listener: (devices: DevicePresence[]) => void): void;
  /** Messages of other nodes may have been lost: looks, at the next heartbeat, for what they would have said. */
  recheck?(): void;
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
  callsOf(userId: string): Promise<Call[]>;
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
  /** Milliseconds since the epoch of the last sign of life. */
  seenAt: number;
  connections: number;
  version: string;
}

export interface NodeRegistry {
  /** Every node, this one among them; while the others cannot be asked, as they were last known. */
  list(): Promise<NodeInfo[]>;
  /** Called from time to time with this node's own figures. */
  beat(connections: number): Promise<void>;
  /** Called once a node that was there has gone, and nothing of it is left in the registries. */
  onGone?(listener: () => void): void;
}

export interface Cluster {
  nodeId: string;
  bus: Bus;
  presence: PresenceRegistry;
  calls: CallRegistry;
  nodes: NodeRegistry;
  /** What applications add to a stream, where there is one [PUB2]; started by who reads it. */
  stream?: Inbox;
  start(): Promise<void>;
  /** Resolves while the connection is up, subscribed and not deaf. */
  ping(): Promise<void>;
  stop(): Promise<void>;
}
