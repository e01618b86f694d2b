/** Writes what is published to its sockets: on a busy topic what follows closely goes out together at the end of a window [WIRE1]. */
import type { Timers } from "../ground/timers.ts";
import type { WireFormat } from "../protocol/limits.ts";
import { ownerOf } from "../protocol/topic.ts";
import type { EncodedFrame, NativeTopics, Recipient, WaitingFrames } from "./ports.ts";

/** An event in one wire format. */
export interface Publication {
  format: WireFormat;
  frame: EncodedFrame;
  /** The native topics that have its receivers. */
  names: string[];
  /** Connections on them that it passes by, or that have it already. */
  passedBy: Set<Recipient>;
}

export interface CoalescerOptions {
  native: Pick<NativeTopics, "publish">;
  timers: Timers;
  /** How long what follows may wait, ms; 0: nothing ever waits. */
  windowMs: number;
  /** Subscribers of a topic on this node from which on it counts as busy. */
  fromSubscribers: number;
}

interface Waiting {
  publications: Publication[];
  bytes: number;
}

/** More would not be one write a socket any more: so much the platform puts into one. */
const publicationsMax = 32;
const bytesMax = 16 * 1024;

export class Coalescer implements WaitingFrames {
  /** By topic, from a first event until a window in which nothing has followed. */
  readonly #open = new Map<string, Waiting>();
  /** The part of them in which something waits. */
  readonly #waiting = new Map<string, Waiting>();

  constructor(private readonly options: CoalescerOptions) {}

  /** @param heard how many connections of this node hear the topic */
  publish(topic: string, publications: Publication[], heard: number): void {
    const open = this.#open.get(topic);
    if (open === undefined) {
      for (const publication of publications) this.#write(publication);
      if (this.#isBusy(topic, heard)) this.#openWindow(topic, { publications: [], bytes: 0 });
      return;
    }
    for (const publication of publications) {
      open.publications.push(publication);
      open.bytes += publication.frame.length;
    }
    this.#waiting.set(topic, open);
    if (open.publications.length >= publicationsMax || open.bytes >= bytesMax) this.#writeAll(topic, open);
  }

  bringLevel(recipient: Recipient): void {
    if (this.#waiting.size === 0) return;
    for (const topic of [...this.#waiting.keys()]) this.bringLevelOn(topic, recipient);
  }

  bringLevelOn(topic: string, recipient: Recipient): void {
    const waiting = this.#waiting.get(topic);
    if (waiting === undefined || !recipient.isSubscribed(topic)) return;
    const isDue = ({ format, passedBy }: Publication) => format === recipient.format && !passedBy.has(recipient);
    const due = waiting.publications.filter(isDue);
    // Before they are written: one that is too slow for them is closed, which asks once more.
    for (const { passedBy } of due) passedBy.add(recipient);
    if (due.length > 0) recipient.sendFrames(due.map(({ frame }) => frame));
  }

  passBy(topic: string, recipient: Recipient): void {
    const waiting = this.#waiting.get(topic);
    if (waiting === undefined || recipient.isSubscribed(topic)) return;
    for (const { passedBy } of waiting.publications) passedBy.add(recipient);
  }

  #isBusy(topic: string, heard: number): boolean {
    const { windowMs, fromSubscribers } = this.options;
    // A user's own topics are heard by few, and a socket changes between the native topics that stand for them.
    return windowMs > 0 && heard >= fromSubscribers && ownerOf(topic) === null;
  }

  #openWindow(topic: string, open: Waiting): void {
    this.#open.set(topic, open);
    this.options.timers.after(this.options.windowMs, () => {
      if (open.publications.length === 0) return void this.#open.delete(topic);
      this.#writeAll(topic, open);
      this.#openWindow(topic, open);
    });
  }

  #writeAll(topic: string, waiting: Waiting): void {
    const { publications } = waiting;
    waiting.publications = [];
    waiting.bytes = 0;
    this.#waiting.delete(topic);
    for (const publication of publications) this.#write(publication);
  }

  /** The platform puts what is published in one turn of the loop into one write a socket. */
  #write({ frame, names, passedBy }: Publication): void {
    for (const name of names) {
      const away = [...passedBy].filter((recipient) => recipient.stepOut(name));
      this.options.native.publish(name, frame);
      for (const recipient of away) recipient.stepBack(name);
    }
  }
}
