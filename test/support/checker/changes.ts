/** Changes messages as clients do: edits and deletes what its user has sent, reacts to anybody's, and asks for the same again [MSG2] [MSG3]. */
import type { Device } from "./device.ts";
import type { Random } from "./random.ts";

export interface ChangesOptions {
  device: Device;
  random: Random;
  contentLengthMax: number;
}

const reactions = ["👍", "❤️", "🎉", "a text of some length, for those without pictures"] as const;
const addChance = 0.6;

export class Changes {
  #last: { type: string; payload: object } | null = null;
  #edits = 0;

  constructor(private readonly options: ChangesOptions) {}

  edit(conversation_id: string): void {
    const { device, random, contentLengthMax } = this.options;
    const message_id = this.#pick(conversation_id, { isOwn: true });
    if (message_id === null) return;
    const length = Math.floor(contentLengthMax ** random.next());
    const content = `edit ${++this.#edits} of ${device.deviceId} ${"y".repeat(length)}`;
    this.#ask("message.edit", { conversation_id, message_id, content });
  }

  delete(conversation_id: string): void {
    const message_id = this.#pick(conversation_id, { isOwn: true });
    if (message_id !== null) this.#ask("message.delete", { conversation_id, message_id });
  }

  react(conversation_id: string): void {
    const { random } = this.options;
    const message_id = this.#pick(conversation_id, { isOwn: false });
    if (message_id === null) return;
    const type = random.chance(addChance) ? "reaction.add" : "reaction.remove";
    this.#ask(type, { conversation_id, message_id, reaction: random.pick(reactions) });
  }

  /** @returns whether there was anything to repeat */
  repeat(): boolean {
    if (this.#last === null) return false;
    void this.options.device.request(this.#last.type, this.#last.payload);
    return true;
  }

  #ask(type: string, payload: object): void {
    this.#last = { type, payload };
    void this.options.device.request(type, payload);
  }

  /** Picks a message that the device knows; null where there is none. */
  #pick(conversationId: string, { isOwn }: { isOwn: boolean }): string | null {
    const { device, random } = this.options;
    const known = (device.recent.get(conversationId) ?? []).filter((it) => !isOwn || it.senderId === device.userId);
    return known.length === 0 ? null : random.pick(known).messageId;
  }
}
