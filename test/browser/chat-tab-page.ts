/** Is a tab of a chat, which shows one conversation and the list. */
import { Client } from "../../src/client/index.ts";

const query = new URLSearchParams((globalThis as any).location.search);
let changed = () => {};
const client = new Client({ url: query.get("socket")!, userId: query.get("user_id")! });
const conversation = client.conversation(query.get("conversation_id")!);
const list = client.conversations();
conversation.subscribe(() => changed());
list.subscribe(() => changed());
client.on("state", () => changed());
client.start();

const messages = () => conversation.current.messages.map(({ content, state }) => `${content} ${state}`);

async function until(isSo: () => boolean): Promise<void> {
  while (!isSo()) await new Promise<void>((resolve) => (changed = resolve));
}

Object.assign(globalThis, {
  tab: {
    client,
    conversation,
    messages,
    unread: () => list.current.items.find(({ id }) => id === query.get("conversation_id"))?.unread,
    live: () => until(() => client.state.status === "live" && conversation.current.status === "live"),
    untilShown: (message: string) => until(() => messages().includes(message)),
    untilNothingWaits: () => until(() => messages().every((message) => message.endsWith(" sent"))),
    async loadAll() {
      while (conversation.current.hasOlder) await conversation.loadOlder();
    },
  },
});
