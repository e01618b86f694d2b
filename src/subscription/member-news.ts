/** Tells this node's subscribers of a conversation who has come, who has gone and who may write: what is so, as the directory has it [MEM1] [MSG5]. */
import type { Broadcaster } from "../broadcast/broadcaster.ts";
import { momentText } from "../ground/moments.ts";
import type { Timers } from "../ground/timers.ts";
import type { ServerPayload } from "../protocol/server.ts";
import { conversationTopic } from "../protocol/topic.ts";
import type { Subscriber } from "./subscriber.ts";
import type { Tell } from "./tell.ts";

export interface MemberNewsOptions {
  broadcaster: Pick<Broadcaster, "toTopic" | "toAll" | "subscriberCount">;
  /** This node's connections of a user. */
  subscribersOf: (userId: string) => Iterable<Subscriber>;
  tell: Tell;
  timers: Timers;
  now: () => number;
}

/** Says what has become of a member; `at`: when, ms since 1970. */
export type MemberChange = { conversationId: string; userId: string; at: number } & (
  | { kind: "removed" }
  | { kind: "added" | "updated"; mayWrite: boolean }
);

type Updated = ServerPayload<"member.updated">;

/** So much is told of one conversation one by one within a window, each to each of its subscribers here: a crowd that comes is no flood. */
const framesMax = 5_000;
export const windowMs = 500;
/** So long (ms) lies between two times that more has changed, or may have, than is told: all who hear it ask. */
export const restMs = 5_000;

interface Window {
  frames: number;
  /** More has changed than was told. */
  isCut: boolean;
  close: () => void;
}

export class MemberNews {
  /** By conversation, of those that something was told of just now. */
  readonly #windows = new Map<string, Window>();
  /** Set for a while once everybody was told that changes may have been missed. */
  #missed: { isAgain: boolean; callOff: () => void } | null = null;

  constructor(private readonly options: MemberNewsOptions) {}

  stop(): void {
    for (const { close } of this.#windows.values()) close();
    this.#windows.clear();
    this.#missed?.callOff();
    this.#missed = null;
  }

  /** Changes may have been missed, of whichever conversation. */
  mayBeMissed(): void {
    if (this.#missed !== null) {
      this.#missed.isAgain = true;
      return;
    }
    const callOff = this.options.timers.after(restMs, () => {
      const isAgain = this.#missed!.isAgain;
      this.#missed = null;
      if (isAgain) this.mayBeMissed();
    });
    this.#missed = { isAgain: false, callOff };
    this.options.broadcaster.toAll({ type: "members.changed", payload: { at: this.#at() } }, { reach: "here" });
  }

  /** Others are told of a newcomer; its own connections are told by `subscribed`. */
  tell(change: MemberChange): void {
    const { broadcaster } = this.options;
    const topic = conversationTopic(change.conversationId);
    const hearers = broadcaster.subscriberCount(topic);
    if (hearers === 0) return;
    const hasRoom = this.#hasRoom(change.conversationId, hearers);
    const payload = {
      conversation_id: change.conversationId,
      user_id: change.userId,
      at: momentText(change.at),
    };
    if (change.kind === "updated") {
      const updated: Updated = { ...payload, may_write: change.mayWrite };
      if (hasRoom) broadcaster.toTopic(topic, { type: "member.updated", payload: updated }, { reach: "here" });
      else this.#tellOwn(topic, updated);
    } else if (change.kind === "removed") {
      if (hasRoom) broadcaster.toTopic(topic, { type: "member.removed", payload }, { reach: "here" });
    } else if (hasRoom) {
      const added = { ...payload, ...(change.mayWrite ? {} : { may_write: false }) };
      const audience = { reach: "here", exceptUser: change.userId } as const;
      broadcaster.toTopic(topic, { type: "member.added", payload: added }, audience);
    }
  }

  #hasRoom(conversationId: string, hearers: number): boolean {
    const window = this.#windows.get(conversationId) ?? this.#open(conversationId, windowMs);
    const hasRoom = window.frames === 0 || window.frames + hearers <= framesMax;
    if (hasRoom) window.frames += hearers;
    else window.isCut = true;
    return hasRoom;
  }

  #open(conversationId: string, lengthMs: number): Window {
    const close = this.options.timers.after(lengthMs, () => this.#end(conversationId));
    const window: Window = { frames: 0, isCut: false, close };
    this.#windows.set(conversationId, window);
    return window;
  }

  #end(conversationId: string): void {
    const { isCut } = this.#windows.get(conversationId)!;
    this.#windows.delete(conversationId);
    if (!isCut) return;
    // Of a crowd that goes on coming less is told, and rarely that there is more.
    this.#open(conversationId, restMs);
    const payload = { conversation_id: conversationId, at: this.#at() };
    this.options.broadcaster.toTopic(
      conversationTopic(conversationId),
      { type: "members.changed", payload },
      { reach: "here" },
    );
  }

  /** Tells the member itself, however crowded it is: what one may do oneself cannot wait until it is asked for. */
  #tellOwn(topic: string, updated: Updated): void {
    for (const subscriber of this.options.subscribersOf(updated.user_id))
      if (subscriber.isSubscribed(topic)) this.options.tell(subscriber, "member.updated", updated);
  }

  #at(): string {
    return momentText(this.options.now());
  }
}
