/** Works out what one connection may believe about the present: who is there, and who types; events and snapshots make it up. */
import type { Received } from "../client.ts";
import type { ConnectionHistory } from "./history.ts";

export class PresentView {
  /** By user. */
  readonly statuses = new Map<string, string>();
  /** `conversation user` of those who type. */
  readonly typing = new Set<string>();

  note({ type, payload, reply_to }: Received): void {
    switch (type) {
      case "presence.online":
        this.statuses.set(payload.user_id, payload.status);
        return;
      case "presence.offline":
        this.statuses.set(payload.user_id, "offline");
        return;
      case "presence.update":
        if (reply_to === undefined) this.statuses.set(payload.user_id, payload.status);
        return;
      case "typing.start":
        this.typing.add(`${payload.conversation_id} ${payload.user_id}`);
        return;
      case "typing.stop":
        this.typing.delete(`${payload.conversation_id} ${payload.user_id}`);
        return;
      case "subscribed":
        for (const { topic, snapshot } of payload.topics) this.#take(topic, snapshot ?? {});
        return;
    }
  }

  #take(topic: string, { presence, typing }: { presence?: any; typing?: any[] }): void {
    if (presence !== undefined) this.statuses.set(presence.user_id, presence.status);
    if (typing === undefined) return;
    const conversation = `${topic.slice(topic.indexOf(":") + 1)} `;
    for (const known of [...this.typing]) if (known.startsWith(conversation)) this.typing.delete(known);
    for (const { user_id } of typing) this.typing.add(conversation + user_id);
  }
}

/** Works out what the connection believes after all that came on it. */
export function viewOf(connection: ConnectionHistory): PresentView {
  const view = new PresentView();
  for (const entry of connection.entries) if (entry.kind === "message") view.note(entry.message);
  return view;
}
