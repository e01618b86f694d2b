/** Sends an event to a topic, a user, one device, many users or everyone: encoded once per wire format, published once. */
import type { Bus, TopicMessage } from "../cluster/ports.ts";
import type { Codecs } from "../protocol/codecs.ts";
import type { OutgoingMessage } from "../protocol/envelope.ts";
import type { WireFormat } from "../protocol/limits.ts";
import type { ServerMessageType, ServerPayload } from "../protocol/server.ts";
import { everyoneTopic, ownerOf, userTopic } from "../protocol/topic.ts";
import type { LoggedEvent } from "../storage/ports.ts";
import { type Counts, countOne } from "../telemetry/counts.ts";
import type { Coalescer, Publication } from "./coalescer.ts";
import { type LocalRecipients, type NativeTopics, nativeTopicsOf, type Recipient, type Watchers } from "./ports.ts";

/** Names the connection or device that is left out of an event, or is alone meant by it. */
export interface Audience {
  /** The connection that caused the event [SUB6]. */
  except?: Recipient | undefined;
  exceptDevice?: string | undefined;
  /** All of a user's connections on this node. */
  exceptUser?: string | undefined;
  /** Only this device of the topic's user. */
  onlyDevice?: string | undefined;
  /** Which nodes' subscribers hear of an event that is not logged; everywhere unless it is said. */
  reach?: "here" | "elsewhere" | "everywhere";
  /** Only the node that has the device may tell it, once it has claimed that [CALL4]. */
  isOwed?: boolean;
}

/** An event that is not logged: whoever is there gets it. */
export interface EphemeralEvent<Type extends string = string> {
  type: Type;
  /** As the protocol has it; an application's own type is known only while running. */
  payload: Type extends ServerMessageType ? ServerPayload<Type> : string extends Type ? object : never;
}

export interface BroadcasterOptions {
  native: NativeTopics;
  coalescer: Coalescer;
  recipients: LocalRecipients;
  codecs: Codecs;
  bus: Bus;
  /** Called for each that is live on the topic and is left out of a logged event. */
  onLeftOut?: (recipient: Recipient, topic: string, seq: number) => void;
  watchers?: Watchers;
  counts: Counts;
  now: () => number;
  newId: () => string;
}

const formats: WireFormat[] = ["json", "protobuf"];

export class Broadcaster {
  readonly #listeners: ((event: LoggedEvent) => void)[] = [];

  constructor(private readonly options: BroadcasterOptions) {}

  /** A logged event to this node's subscribers; the sequencer alone calls it, in `seq` order [LOG3]. */
  publishLogged(event: LoggedEvent, audience: Audience = {}): void {
    const { topic, id, type, payload, createdAt: at, seq, position, frames } = event;
    const message: OutgoingMessage = { id, type, payload, at, topic, seq, position };
    if (frames !== undefined) message.frames = frames;
    const receivers = this.#publishHere(topic, message, audience);
    const { counts, now } = this.options;
    // Clocks of nodes differ: none is heard before it was said.
    if (receivers > 0) counts.deliveries.note(Math.max(0, now() - event.createdAt));
    for (const listener of this.#listeners) listener(event);
  }

  /** Has a listener told of each logged event that this node's subscribers were sent, whichever way it has come here. */
  onPublished(listener: (event: LoggedEvent) => void): void {
    this.#listeners.push(listener);
  }

  /** An event that is not logged, to the topic's subscribers on every node. @returns the event's id */
  toTopic<Type extends string>(
    topic: string,
    { type, payload }: EphemeralEvent<Type>,
    audience: Audience = {},
  ): string {
    return this.#toTopic(topic, { type, payload: JSON.stringify(payload) }, audience);
  }

  /** To all devices of one user that hear its `user` topic. */
  toUser<Type extends string>(userId: string, event: EphemeralEvent<Type>, audience: Audience = {}): string {
    return this.toTopic(userTopic(userId), event, audience);
  }

  /** To the subscribers of many topics: one event for each, such as for the devices of many users. */
  toTopics<Type extends string>(
    topics: string[],
    { type, payload }: EphemeralEvent<Type>,
    audience: Audience = {},
  ): void {
    const written = { type, payload: JSON.stringify(payload) };
    for (const topic of topics) this.#toTopic(topic, written, audience);
  }

  /** To every authenticated connection. */
  toAll<Type extends string>(event: EphemeralEvent<Type>, audience: Audience = {}): string {
    return this.toTopic(everyoneTopic, event, audience);
  }

  /** An event of another node, that is not logged; a logged one goes through the sequencer. */
  relay(message: TopicMessage & { kind: "ephemeral" }): void {
    const { kind: _, topic, exceptDevice, onlyDevice, isOwed: __, ...outgoing } = message;
    this.#publishHere(topic, outgoing, { exceptDevice, onlyDevice });
  }

  subscriberCount(topic: string): number {
    let count = 0;
    for (const format of formats) {
      for (const name of nativeTopicsOf(topic, format)) count += this.options.native.subscriberCount(name);
    }
    return count;
  }

  /** Counts this node's connections that hear the topic, without those that are left out. */
  receiverCount(topic: string, audience: Audience = {}): number {
    let count = this.subscriberCount(topic);
    for (const recipient of this.#leftOutOf(topic, audience)) if (recipient.isSubscribed(topic)) count--;
    return count;
  }

  /** Whether a connection of the device is on this node. */
  reachesDevice({ userId, deviceId }: { userId: string; deviceId: string }): boolean {
    return [...this.options.recipients.ofUser(userId)].some((recipient) => recipient.deviceId === deviceId);
  }

  #toTopic(topic: string, written: { type: string; payload: string }, audience: Audience): string {
    const message = { id: this.options.newId(), ...written, at: this.options.now() };
    const { exceptDevice, onlyDevice, isOwed = false, reach = "everywhere" } = audience;
    countOne(this.options.counts.published, "ephemeral");
    if (reach !== "elsewhere") {
      this.#publishHere(topic, message, audience);
    }
    if (reach !== "here")
      this.options.bus.publish(topic, {
        kind: "ephemeral",
        topic,
        ...message,
        exceptDevice,
        onlyDevice,
        ...(isOwed ? { isOwed } : {}),
      });
    return message.id;
  }

  /** @returns how many it was published to */
  #publishHere(topic: string, message: OutgoingMessage, audience: Audience): number {
    if (audience.onlyDevice !== undefined) return this.#sendToDevice(topic, message, audience.onlyDevice);
    const { codecs, coalescer, counts, native, watchers } = this.options;
    const leftOut = this.#leftOutOf(topic, audience);
    const publications: Publication[] = [];
    let receivers = 0;
    for (const format of formats) {
      let count = 0;
      const names = nativeTopicsOf(topic, format).filter((name) => {
        const subscribers = native.subscriberCount(name);
        count += subscribers;
        return subscribers > 0;
      });
      if (count === 0) continue;
      const frame = codecs[format].encode(message);
      const passedBy = new Set([...leftOut].filter((it) => it.format === format && it.isSubscribed(topic)));
      const heard = count - passedBy.size;
      receivers += heard;
      if (heard > 0) counts.bytesOut += heard * Buffer.byteLength(frame);
      publications.push({ format, frame, names, passedBy });
      if (message.seq !== undefined)
        for (const recipient of passedBy) this.options.onLeftOut?.(recipient, topic, message.seq);
      if (watchers?.isWatching) watchers.notePublished(topic, message, { format, frame, leftOut });
    }
    coalescer.publish(topic, publications, receivers);
    counts.messagesOut += receivers;
    return receivers;
  }

  #leftOutOf(topic: string, { except, exceptDevice, exceptUser }: Audience): Set<Recipient> {
    const leftOut = new Set(exceptDevice === undefined ? [] : this.#connectionsOf(exceptDevice, topic));
    if (exceptUser !== undefined)
      for (const recipient of this.options.recipients.ofUser(exceptUser)) leftOut.add(recipient);
    if (except !== undefined) leftOut.add(except);
    return leftOut;
  }

  /** Many users may have a device of one name: where one user alone hears a topic, only that user's are looked at. */
  #connectionsOf(deviceId: string, topic: string): Iterable<Recipient> {
    const owner = ownerOf(topic);
    if (owner === null) return this.options.recipients.ofDevice(deviceId);
    return [...this.options.recipients.ofUser(owner)].filter((recipient) => recipient.deviceId === deviceId);
  }

  #sendToDevice(topic: string, message: OutgoingMessage, deviceId: string): number {
    let receivers = 0;
    const userId = topic.slice(topic.indexOf(":") + 1);
    for (const recipient of this.options.recipients.ofUser(userId)) {
      if (recipient.deviceId !== deviceId || !recipient.isSubscribed(topic)) continue;
      recipient.sendMessage(message);
      receivers++;
    }
    return receivers;
  }
}
