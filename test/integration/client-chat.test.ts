/** Plays conversations of the client against the real service: what one does the other shows. */
import { afterAll, afterEach, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import type { ConversationView } from "../../src/client/conversation.ts";
import { chatter, opened, shows, stopChatters } from "../support/chatters.ts";
import { fresh } from "../support/people.ts";
import { type Service, startService } from "../support/service.ts";

setDefaultTimeout(60_000);

let service: Service;
beforeAll(async () => {
  service = await startService();
});
afterEach(() => stopChatters());
afterAll(() => service.stop());

const textsOf = ({ messages }: ConversationView) => messages.map(({ content }) => content);
const userOf = (prefix: string) => chatter({ url: service.url, userId: fresh(prefix) }).client;

test("[MSG1] a message is shown at once, then as sent under the same key, and by the other", async () => {
  const c = fresh("c");
  const [anna, ben] = [userOf("anna"), userOf("ben")];
  const [annas, bens] = [opened(anna.conversation(c)), opened(ben.conversation(c))];
  await Promise.all([annas, bens].map((it) => shows(it, ({ status }) => status === "live")));
  const pending = await annas.send("Hello!");
  expect(pending).toMatchObject({ state: "pending", content: "Hello!", isOwn: true, seq: null, id: pending.key });
  const { messages } = await shows(annas, ({ messages }) => messages[0]?.state === "sent");
  expect(messages).toMatchObject([{ key: pending.key, clientMessageId: pending.key, content: "Hello!", seq: 1 }]);
  const shown = await shows(bens, ({ messages }) => messages.length === 1);
  expect(shown).toMatchObject({ unread: 1, messages: [{ content: "Hello!", isOwn: false, senderId: anna.userId! }] });
  expect(textsOf(annas.current)).toEqual(["Hello!"]);
});
