/** Shows operators what connections of this node receive and send, as long as their nodes go on asking for it [ADM1]. */
import * as v from "valibot";
import type { Broadcaster } from "../broadcast/broadcaster.ts";
import type { EncodedFrame, Recipient, Watchers } from "../broadcast/ports.ts";
import { momentText } from "../ground/moments.ts";
import { type WatchedMessage, watchTopic } from "../protocol/admin.ts";
import { type ClientMessageType, clientPayloads } from "../protocol/client.ts";
import type { Codecs } from "../protocol/codecs.ts";
import type { OutgoingMessage } from "../protocol/envelope.ts";
import { ProtocolError } from "../protocol/errors.ts";
import type { WireFormat } from "../protocol/limits.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { Connection } from "./connection.ts";

export interface WatchesOptions {
  codecs: Codecs;
  /** Whether the configuration lets anybody see payloads. */
  showsPayloads: boolean;
  now: () => number;
  logger: Pick<Logger, "info">;
}

interface Watch {
  watchId: string;
  connection: Connection;
  payloads: boolean;
  by: string;
  messages: WatchedMessage[];
  leftOut: number;
  /** Running while something waits to be shown. */
  showTimer: Timer | null;
  /** Ends it where nobody asks for it again. */
  leaseTimer: Timer;
  closed: number | null;
}

/** How long a watch goes on from each time that it is asked for, ms: its node asks four times in it. */
const leaseMs = 8_000;
/** Messages are shown together that come within so long, ms; and of these so many. */
const showEveryMs = 200;
const shownMax = 100;
/** Characters of JSON of the largest payload that is shown. */
const payloadLengthMax = 4_096;
/** Watches of one node at once. */
const watchesMax = 100;
/** Bear tokens; and what is shown is not shown again to whoever watches the one who watches. */
const neverShown: ReadonlySet<string> = new Set(["authenticate"]);
const shownType = "admin.watched";
/** Stands for what is no message of the protocol. */
const unknown = { type: "?" };

export class Watches implements Watchers {
  readonly #watches = new Map<string, Watch>();
  #broadcaster: Pick<Broadcaster, "toTopic"> | null = null;

  constructor(private readonly options: WatchesOptions) {}

  get isWatching(): boolean {
    return this.#watches.size > 0;
  }

  /** Shows by it from now on. */
  showBy(broadcaster: Pick<Broadcaster, "toTopic">): void {
    this.#broadcaster = broadcaster;
  }

  /**
   * Begins, or goes on for another while.
   * @returns null where the connection is not there
   * @throws ProtocolError where there are too many
   */
  watch(
    { watchId, payloads, by }: { watchId: string; payloads: boolean; by: string },
    find: () => Connection | undefined,
  ): { connection: Connection; closed: number | null } | null {
    const known = this.#watches.get(watchId);
    if (known !== undefined) {
      known.leaseTimer.refresh();
      return known;
    }
    const connection = find();
    if (connection === undefined) return null;
    if (this.#watches.size >= watchesMax)
      throw new ProtocolError("limit_exceeded", "As many connections of this node are watched as may be.");
    const watch: Watch = {
      watchId,
      connection,
      payloads: payloads && this.options.showsPayloads,
      by,
      messages: [],
      leftOut: 0,
      showTimer: null,
      leaseTimer: setTimeout(() => this.end(watchId), leaseMs).unref(),
      closed: null,
    };
    this.#watches.set(watchId, watch);
    this.#log(watch, "a connection is watched");
    return watch;
  }

  end(watchId: string): void {
    const watch = this.#watches.get(watchId);
    if (watch === undefined) return;
    this.#watches.delete(watchId);
    clearTimeout(watch.leaseTimer);
    clearTimeout(watch.showTimer ?? undefined);
    this.#log(watch, "a connection is watched no more");
  }

  notePublished(
    topic: string,
    message: OutgoingMessage,
    { format, frame, leftOut }: { format: WireFormat; frame: EncodedFrame; leftOut: ReadonlySet<Recipient> },
  ): void {
    for (const watch of this.#watches.values()) {
      const { connection } = watch;
      if (connection.format !== format || leftOut.has(connection) || !connection.isSubscribed(topic)) continue;
      this.#noteSent(watch, message, frame, topic);
    }
  }

  noteSent(connection: Connection, message: OutgoingMessage, frame: EncodedFrame): void {
    for (const watch of this.#of(connection)) this.#noteSent(watch, message, frame, message.topic);
  }

  noteReceived(connection: Connection, frame: string | Uint8Array): void {
    for (const watch of this.#of(connection)) {
      const { type, payload } = this.#read(connection, frame);
      this.#note(watch, { direction: "received", type, bytes: bytesOf(frame) }, () => payload);
    }
  }

  /** Shows the rest at once; the node that asks is told of the end. */
  noteGone(connection: Connection, code: number): void {
    if (!this.isWatching) return;
    for (const watch of this.#of(connection)) {
      watch.closed = code;
      this.#show(watch);
    }
  }

  *#of(connection: Connection): Iterable<Watch> {
    for (const watch of this.#watches.values()) if (watch.connection === connection) yield watch;
  }

  #noteSent(watch: Watch, message: OutgoingMessage, frame: EncodedFrame, topic: string | undefined): void {
    const { type, seq, payload } = message;
    if (type === shownType) return;
    const place = { ...(topic === undefined ? {} : { topic }), ...(seq === undefined ? {} : { seq }) };
    this.#note(watch, { direction: "sent", type, ...place, bytes: bytesOf(frame) }, () =>
      payload.length > payloadLengthMax ? undefined : JSON.parse(payload),
    );
  }

  #note(watch: Watch, message: Omit<WatchedMessage, "at" | "payload">, payloadOf: () => unknown): void {
    watch.showTimer ??= setTimeout(() => this.#show(watch), showEveryMs).unref();
    if (watch.messages.length >= shownMax) {
      watch.leftOut++;
      return;
    }
    const payload = watch.payloads && !neverShown.has(message.type) ? payloadOf() : undefined;
    const at = momentText(this.options.now());
    watch.messages.push({ at, ...message, ...(payload === undefined ? {} : { payload: payload as object }) } as never);
  }

  /** Reads a client's frame as far as it is of the protocol: what else somebody writes into it may be a token at the wrong place. */
  #read(connection: Connection, frame: string | Uint8Array): { type: string; payload?: unknown } {
    try {
      const { type, payload } = this.options.codecs[connection.format].decode(frame);
      if (typeof type !== "string" || !Object.hasOwn(clientPayloads, type)) return unknown;
      if (frame.length > payloadLengthMax) return { type };
      const { success, output } = v.safeParse(clientPayloads[type as ClientMessageType], payload ?? {});
      return { type, ...(success && { payload: output }) };
    } catch {
      return unknown;
    }
  }

  #show(watch: Watch): void {
    clearTimeout(watch.showTimer ?? undefined);
    watch.showTimer = null;
    const { watchId, messages, leftOut } = watch;
    if (messages.length === 0 && leftOut === 0) return;
    watch.messages = [];
    watch.leftOut = 0;
    const payload = { watch_id: watchId, messages, left_out: leftOut };
    this.#broadcaster?.toTopic(watchTopic(watchId), { type: shownType, payload });
  }

  #log({ connection, by, payloads, watchId }: Watch, told: string): void {
    const { connectionId: connection_id, userId: user_id } = connection;
    this.options.logger.info({ watch_id: watchId, by, connection_id, user_id, shows_payloads: payloads }, told);
  }
}

const bytesOf = (frame: string | Uint8Array) =>
  typeof frame === "string" ? Buffer.byteLength(frame) : frame.byteLength;
