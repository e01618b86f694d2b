/** Says who types, each until it ends by itself, and tells the others that this user does, as often as they need it [TYP1] [TYP2]. */
import type { Clock, Core, Unlisten } from "../core.ts";
import type { ServerPayloads } from "../wire.ts";

/** The server passes on no more than that. */
const startEveryMs = 3_000;
const idleMs = 5_000;
/** The server's own end of it, where no time was told. */
const typingMs = 10_000;

/** The others in a conversation who type. */
export class TypingUsers {
  readonly #until = new Map<string, Unlisten>();
  #shown: readonly string[] = [];
  readonly #clock: Clock;
  readonly #onChange: () => void;

  constructor(clock: Clock, onChange: () => void) {
    this.#clock = clock;
    this.#onChange = onChange;
  }

  /** In the order in which they began. */
  get current(): readonly string[] {
    return this.#shown;
  }

  /** @param toldAt when the server said so, RFC 3339: how long it lasts is told by the server's clock alone */
  start({ user_id, expires_at }: ServerPayloads["typing.start"], toldAt?: string): void {
    const leftMs = toldAt === undefined ? typingMs : Date.parse(expires_at) - Date.parse(toldAt);
    this.#until.get(user_id)?.();
    this.#until.set(
      user_id,
      this.#clock.after(Math.min(Math.max(leftMs || 0, 0), typingMs), () => this.stop(user_id)),
    );
    if (!this.#shown.includes(user_id)) this.#changed();
  }

  stop(userId: string): void {
    this.#until.get(userId)?.();
    if (this.#until.delete(userId)) this.#changed();
  }

  clear(): void {
    for (const userId of [...this.#until.keys()]) this.stop(userId);
  }

  #changed(): void {
    this.#shown = [...this.#until.keys()];
    this.#onChange();
  }
}

/** This user's own typing in a conversation. */
export interface Typing {
  /** To be called with each key: the others are told at most every 3 s, and that it has ended after 5 s without one. */
  keystroke(): void;
  /** Ends it at once, where the text was emptied or the field left. Sending ends it by itself. */
  stop(): void;
}

export class OwnTyping implements Typing {
  readonly #core: Core;
  readonly #clock: Clock;
  readonly #conversationId: string;
  /** Milliseconds since 1970; 0: the others do not know. */
  #toldAt = 0;
  #callOff: Unlisten | null = null;

  constructor({ core, clock, conversationId }: { core: Core; clock: Clock; conversationId: string }) {
    this.#core = core;
    this.#clock = clock;
    this.#conversationId = conversationId;
  }

  keystroke(): void {
    this.#callOff?.();
    this.#callOff = this.#clock.after(idleMs, () => this.stop());
    const now = this.#clock.now();
    if (now - this.#toldAt < startEveryMs) return;
    if (this.#tell("typing.start")) this.#toldAt = now;
  }

  stop(): void {
    const isTold = this.#callOff !== null && this.#toldAt > 0;
    this.sent();
    if (isTold) this.#tell("typing.stop");
  }

  /** The server has ended it with the message. */
  sent(): void {
    this.#callOff?.();
    this.#callOff = null;
    this.#toldAt = 0;
  }

  /** Not waited for: it is of now or of no use. */
  #tell(type: "typing.start" | "typing.stop"): boolean {
    if (this.#core.state.status !== "live") return false;
    this.#core.request(type, { conversation_id: this.#conversationId }).catch(() => {});
    return true;
  }
}
