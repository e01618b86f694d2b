/** Folds what comes on a device into a conversation as the protocol tells clients to: messages with their text of today and their reactions [MSG2] [MSG3]. */
import type { Exchange, LoggedMessage } from "./history.ts";
import { reactionKey } from "./messages.ts";
import { shownReactions } from "./row-flaws.ts";

export interface Shown {
  seq: number;
  /** Null: deleted. */
  content: unknown;
  /** The number of the edit that it shows; 0: as it came. */
  editSeq: number;
  /** By `reactionKey`: who reacts how, and the number of what said so. */
  reactions: Map<string, { added: boolean; seq: number }>;
}

export class Conversation {
  /** By `message_id`. */
  readonly messages = new Map<string, Shown>();
  /** Changes of what is not here: of a message of its own the device may hear before it has the reply to it. */
  readonly #early = new Map<string, (() => void)[]>();

  take({ type, seq, payload }: Pick<LoggedMessage, "type" | "seq" | "payload">): void {
    switch (type) {
      case "message.new":
        return this.#add(payload.message_id, { seq, payload });
      case "message.edited":
        return this.#edit(payload.message_id, { seq, content: payload.content });
      case "message.deleted":
        return this.#remove(payload.message_id);
      case "message.reaction":
        return this.#react(payload.message_id, { ...payload, seq });
    }
  }

  /** Takes a reply for the event, for what the device does itself does not come back to its own connection [SUB6]. */
  takeReply(userId: string, { type, payload, replies }: Exchange): void {
    const reply = replies[0]?.message;
    if (reply?.type !== "ack") return;
    const { seq, message_id, duplicate } = reply.payload;
    if (type === "message.send") {
      this.#add(message_id, { seq, payload });
      for (const change of this.#early.get(message_id) ?? []) change();
      this.#early.delete(message_id);
    }
    if (duplicate === true) return;
    switch (type) {
      case "message.edit":
        return this.#edit(payload.message_id, { seq, content: payload.content });
      case "message.delete":
        return this.#remove(payload.message_id);
      case "reaction.add":
      case "reaction.remove": {
        const { message_id, reaction } = payload;
        return this.#react(message_id, { user_id: userId, reaction, added: type === "reaction.add", seq });
      }
    }
  }

  /** Passes over what is here already: more is known of it than how it was when it was read. */
  #add(messageId: string, { seq, payload }: { seq: number; payload: any }): void {
    if (this.messages.has(messageId)) return;
    const shown = [...(shownReactions(payload.reactions ?? []) ?? [])];
    const reactions = new Map(shown.map((key) => [key, { added: true, seq }]));
    this.messages.set(messageId, { seq, content: payload.content, editSeq: 0, reactions });
  }

  #edit(messageId: string, { seq, content }: { seq: number; content: unknown }): void {
    const message = this.messages.get(messageId);
    if (message === undefined) return this.#keep(messageId, () => this.#edit(messageId, { seq, content }));
    if (message.content === null || seq < message.editSeq) return;
    message.content = content;
    message.editSeq = seq;
  }

  #remove(messageId: string): void {
    const message = this.messages.get(messageId);
    if (message === undefined) return this.#keep(messageId, () => this.#remove(messageId));
    message.content = null;
    message.reactions.clear();
  }

  #react(messageId: string, change: { user_id: string; reaction: string; added: boolean; seq: number }): void {
    const message = this.messages.get(messageId);
    if (message === undefined) return this.#keep(messageId, () => this.#react(messageId, change));
    const { user_id, reaction, added, seq } = change;
    const key = reactionKey(user_id, reaction);
    if (message.content === null || seq < (message.reactions.get(key)?.seq ?? 0)) return;
    message.reactions.set(key, { added, seq });
  }

  #keep(messageId: string, change: () => void): void {
    this.#early.set(messageId, [...(this.#early.get(messageId) ?? []), change]);
  }
}

/** Gives what two who have the same message must agree on. */
export const looksLike = ({ content, reactions }: Pick<Shown, "content" | "reactions">) =>
  JSON.stringify([
    content,
    [...reactions]
      .filter(([, { added }]) => added)
      .map(([key]) => key)
      .sort(),
  ]);
