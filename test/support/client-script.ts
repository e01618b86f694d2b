/** Runs where a test puts it, in Node or in a page: connects, follows a conversation, says something, and tells what it hears. */
import { Connection, type WebSocketConstructor } from "../../src/client/connection.ts";
import { MemoryStore } from "../../src/client/stores/memory.ts";

/** Tells through `tell`: each state, what others say, and what of its own was taken. */
export async function runClient({
  says = "from anna",
  tell,
  ...options
}: {
  url: string;
  userId?: string;
  getToken?: () => string;
  webSocket?: WebSocketConstructor | undefined;
  says?: string;
  tell: (line: string) => void;
}): Promise<void> {
  const connection = new Connection({
    ...(options.getToken === undefined ? { userId: "anna" } : {}),
    ...options,
    store: new MemoryStore(),
    onError: (error) => tell(`error ${String(error)}`),
  });
  connection.onState((state) => tell(`${state.status}${"reason" in state ? ` ${state.reason}` : ""}`));
  connection.onNews((news) => {
    if (news.kind === "event" && news.event.type === "message.new") tell(`heard ${news.event.payload.content}`);
    if (news.kind === "sent") tell(`sent ${news.entry.id}`);
  });
  connection.start();
  await connection.follow(["conversation"], { conversation_id: "c1" }).ready;
  await connection.outbox.add("message.send", { conversation_id: "c1", client_message_id: "m1", content: says });
}
