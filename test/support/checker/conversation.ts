/** Folds what comes on a device into a conversation, as the protocol's "How a client folds" says: messages with their text of today and their reactions, and how many are unread [MSG2] [MSG3] [REC3]. */
import type { Exchange, LoggedMessage } from "./history.ts";
import { reactionKey } from "./messages.ts";
import { shownReactions } from "./row-flaws.ts";

export interface Shown {
  seq: number;
  senderId: string;
  /** Null: deleted. */
  content: unknown;
  /** The number of the edit that it shows; 0: as it came. */
  editSeq: number;
  /** The number of what deleted it; 0: nothing has, or it came deleted. */
  goneSeq: number;
  /** By `reactionKey`: who reacts how, and the number of what said so. */
  reactions: Map<string, { added: boolean; seq: number }>;
}

/** Says how the conversation stands: of a snapshot, or of the answer to a mark. */
export interface Standing {
  as_of_seq: number;
  unread: number;
  read_seq?: number;
  last_message?: LoggedMessage | null;
}

export class Conversation {
  /** By `message_id`. */
  readonly messages = new Map<string, Shown>();
  /** Unread as of a number, and how far was read. */
  #base = 0;
  #asOf = 0;
  #readSeq = 0;
  /** Changes of what is not here: it is not loaded, or on its way. Of its own a device may hear before it has the reply to it. */
  readonly #early = new Map<string, { change: () => void; goneSeq: number }[]>();

  take({ type, seq, payload }: Pick<LoggedMessage, "type" | "seq" | "payload">): void {
    switch (type) {
      case "message.new":
        return this.#add(payload.message_id, { seq, payload });
      case "message.edited":
        return this.#edit(payload.message_id, { seq, content: payload.content });
      case "message.deleted":
        return this.#remove(payload.message_id, seq);
      case "message.reaction":
        return this.#react(payload.message_id, { ...payload, seq });
    }
  }

  /** Takes what was counted in one moment: what has a higher number comes on top of it. */
  stand({ as_of_seq, unread, read_seq = 0, last_message }: Standing): void {
    this.#asOf = as_of_seq;
    this.#base = unread;
    this.#readSeq = Math.max(this.#readSeq, read_seq);
    if (last_message) this.take(last_message);
  }

  /** Null: what was deleted is not here, so that nobody knows whether it was counted; ask anew. */
  unreadOf(userId: string): number | null {
    const [asOf, readSeq] = [this.#asOf, this.#readSeq];
    if ([...this.#early.values()].flat().some(({ goneSeq }) => goneSeq > asOf)) return null;
    const others = [...this.messages.values()].filter(({ senderId, seq }) => senderId !== userId && seq > readSeq);
    const come = others.filter(({ seq, content }) => seq > asOf && content !== null);
    const gone = others.filter(({ seq, goneSeq }) => seq <= asOf && goneSeq > asOf);
    return this.#base + come.length - gone.length;
  }

  /** The newest message that is here. */
  last(): Shown | undefined {
    return [...this.messages.values()].toSorted((one, other) => other.seq - one.seq)[0];
  }

  /** Takes a reply for the event, for what the device does itself does not come back to its own connection [SUB6]. */
  takeReply(userId: string, { type, payload, replies }: Exchange): void {
    const reply = replies[0]?.message;
    if (reply?.type !== "ack") return;
    const { seq, message_id, duplicate } = reply.payload;
    if (type.startsWith("mark."))
      return this.stand({ ...reply.payload, read_seq: type === "mark.read" ? reply.payload.up_to_seq : 0 });
    if (type === "message.send") this.#add(message_id, { seq, payload: { ...payload, sender_id: userId } });
    if (duplicate === true) return;
    switch (type) {
      case "message.edit":
        return this.#edit(payload.message_id, { seq, content: payload.content });
      case "message.delete":
        return this.#remove(payload.message_id, seq);
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
    const { content, sender_id: senderId } = payload;
    this.messages.set(messageId, { seq, senderId, content, editSeq: 0, goneSeq: 0, reactions });
    const early = this.#early.get(messageId) ?? [];
    this.#early.delete(messageId);
    for (const { change } of early) change();
  }

  #edit(messageId: string, { seq, content }: { seq: number; content: unknown }): void {
    const message = this.messages.get(messageId);
    if (message === undefined) return this.#keep(messageId, () => this.#edit(messageId, { seq, content }));
    if (message.content === null || seq < message.editSeq) return;
    message.content = content;
    message.editSeq = seq;
  }

  #remove(messageId: string, seq: number): void {
    const message = this.messages.get(messageId);
    if (message === undefined) return this.#keep(messageId, () => this.#remove(messageId, seq), seq);
    message.goneSeq = seq;
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

  #keep(messageId: string, change: () => void, goneSeq = 0): void {
    this.#early.set(messageId, [...(this.#early.get(messageId) ?? []), { change, goneSeq }]);
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
