/** Lives as a backend does: takes what was missed and acknowledges it, publishes, moderates what others say and who may, and makes trouble as clients do [BAK3] [PUB1]. */
import { Pace, type PaceOptions } from "./pace.ts";

export interface BackendOptions extends PaceOptions {
  conversations: { conversationId: string; userIds: string[] }[];
  /** Users without any device. */
  ghosts: string[];
  /** Picks a message that somebody knows; null where there is none. */
  pickMessage(conversationId: string): string | null;
}

/** How often each thing is done, as parts of the whole. */
const parts = {
  ping: 12,
  acknowledge: 12,
  notify: 6,
  publish: 6,
  edit: 3,
  delete: 2,
  admit: 6,
  drop: 2,
  leave: 1,
  dropReplay: 2,
};
type Part = keyof typeof parts;
/** Users of one notification. */
const notifiedMax = 3;

export class Backend {
  readonly #pace: Pace;
  #published = 0;

  constructor(private readonly options: BackendOptions) {
    this.#pace = new Pace(options);
  }

  run(): Promise<void> {
    return this.#pace.run(() => this.#act(this.options.random.weighed(parts)));
  }

  stop(): void {
    this.#pace.stop();
  }

  #act(what: Part): void {
    const { device, random } = this.options;
    switch (what) {
      case "ping":
        return void device.ping();
      case "acknowledge":
        return void device.acknowledge();
      case "notify":
        return this.#notify();
      case "publish":
        return this.#publish();
      case "edit":
      case "delete":
        return this.#moderate(what);
      case "admit":
        return this.#admit();
      case "drop":
        return device.drop();
      case "leave":
        return device.leave();
      case "dropReplay":
        device.dropsReplayAfter = random.between(1, 20);
        return device.drop();
      default:
        return what satisfies never;
    }
  }

  #notify(): void {
    const { device, random, conversations } = this.options;
    // Of few users some conversations have none.
    const { userIds } = random.pick(conversations.filter((each) => each.userIds.length > 0));
    const user_ids = Array.from({ length: random.between(1, notifiedMax) }, () => random.pick(userIds));
    const key = `${device.deviceId}-${++this.#published}`;
    void device.request("publish", {
      ...{ user_ids: [...new Set(user_ids)], type: "notification", payload: { title: key } },
      event_key: key,
    });
  }

  #publish(): void {
    const { device, random, conversations } = this.options;
    const { conversationId: conversation_id } = random.pick(conversations);
    const message_id = `${device.deviceId}-${++this.#published}`;
    const payload = { message_id, sender_id: device.userId, content: `published ${message_id}` };
    void device.request("publish", { conversation_id, type: "message.new", payload });
  }

  #moderate(what: "edit" | "delete"): void {
    const { device, random, conversations, pickMessage } = this.options;
    const { conversationId: conversation_id } = random.pick(conversations);
    const message_id = pickMessage(conversation_id);
    if (message_id === null) return;
    const content = `moderated ${++this.#published} by ${device.deviceId}`;
    if (what === "delete") void device.request("message.delete", { conversation_id, message_id });
    else void device.request("message.edit", { conversation_id, message_id, content });
  }

  /** Adds somebody without any device to a conversation, keeps it from writing, or removes it. */
  #admit(): void {
    const { device, random, conversations, ghosts } = this.options;
    if (ghosts.length === 0) return;
    const { conversationId: conversation_id } = random.pick(conversations);
    const userId = random.pick(ghosts);
    const may_write = random.chance(0.5);
    if (random.chance(0.3))
      return void device.request("admin.members.update", { conversation_id, user_id: userId, may_write });
    const type = random.chance(0.5) ? "admin.members.add" : "admin.members.remove";
    void device.request(type, { conversation_id, user_ids: [userId] });
  }
}
