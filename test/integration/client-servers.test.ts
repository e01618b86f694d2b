/** Plays the client against the service and against the fake server of tests: it shows and does the same with both. */
import { afterAll, afterEach, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import type { WebSocketConstructor } from "../../src/client/connection.ts";
import type { ConversationView } from "../../src/client/conversations/conversation.ts";
import { FakeServer } from "../../src/client/testing.ts";
import { chatter, network, opened, shows, stopChatters, textsOf } from "../support/chatters.ts";
import { Client as Peer } from "../support/client.ts";
import { fresh } from "../support/people.ts";
import { type Service, startService } from "../support/service.ts";

setDefaultTimeout(60_000);

interface Server {
  url: string;
  /** A line of somebody's, which can be cut. */
  line(): { webSocket: WebSocketConstructor; cut(): void };
  setMayWrite(conversationId: string, userId: string, mayWrite: boolean): Promise<void>;
}

const events = { "poll.vote": { logged: true } };
let service: Service;
let admin: Peer;
beforeAll(async () => {
  service = await startService({ settings: { EVENTS: "poll.vote=logged" } });
  admin = await Peer.connect(service.url, { query: { user_id: "root", roles: "admin" } });
});
afterAll(async () => {
  await admin?.close();
  await service?.stop();
});

const servers: Record<string, () => Server> = {
  "the service": () => ({
    url: service.url,
    line() {
      const { webSocket, off, on } = network();
      const cut = () => {
        off();
        on();
      };
      return { webSocket, cut };
    },
    setMayWrite: (conversation_id, user_id, may_write) =>
      admin.ask("admin.members.update", { conversation_id, user_id, may_write }),
  }),
  "the fake server": () => {
    const fake = new FakeServer({ isOpen: true, events });
    return {
      url: "ws://fake/ws",
      line: () => ({ webSocket: fake.webSocket, cut: () => fake.drop() }),
      setMayWrite: async (id, userId, mayWrite) => fake.setMayWrite(id, userId, mayWrite),
    };
  },
};

describe.each(Object.keys(servers))("%s", (name) => {
  /** Two who look at the same new conversation. */
  async function gather() {
    const server = servers[name]!();
    const id = fresh("c");
    const people = ["anna", "ben"].map((prefix) => {
      const { webSocket, cut } = server.line();
      const { client } = chatter<{ "poll.vote": { option: number } }>({
        url: server.url,
        userId: fresh(prefix),
        webSocket,
      });
      return { client, cut, view: opened(client.conversation(id)) };
    });
    for (const { view } of people) await shows(view, ({ status }) => status === "live");
    const [anna, ben] = people as [(typeof people)[0], (typeof people)[0]];
    return { server, id, anna, ben };
  }
  afterEach(() => stopChatters());

  test("[MSG1] [REC1] a message is pending, sent, delivered and read", async () => {
    const { anna, ben } = await gather();
    const ticks = new Set<string>();
    anna.view.subscribe(() => {
      const [message] = anna.view.current.messages;
      if (message === undefined) return;
      const { read, delivered } = anna.view.receiptsOf(message);
      ticks.add(read.length > 0 ? "read" : delivered.length > 0 ? "delivered" : message.state);
    });
    const { key } = await anna.view.send({ text: "Hello!", tags: [1] });
    const { messages, unread } = await shows(ben.view, ({ messages }) => messages.length === 1);
    expect([messages[0]!.content, messages[0]!.isOwn, unread]).toEqual([{ text: "Hello!", tags: [1] }, false, 1]);
    await shows(anna.view, () => ticks.has("delivered"));
    ben.view.markRead();
    await shows(anna.view, () => ticks.has("read"));
    expect([...ticks]).toEqual(["pending", "sent", "delivered", "read"]);
    expect([anna.view.current.messages[0]!.key, ben.view.current.unread]).toEqual([key, 0]);
  });

  test("[MSG2] [MSG3] edits, reactions and deletions are shown by both", async () => {
    const { anna, ben } = await gather();
    await anna.view.send("one");
    const { id } = (await shows(ben.view, ({ messages }) => messages.length === 1)).messages[0]!;
    await ben.view.react(id, "👍");
    await anna.view.edit(id, "two");
    for (const { view } of [anna, ben]) {
      const { messages } = await shows(
        view,
        ({ messages }) =>
          messages[0]!.reactions.length === 1 && messages[0]!.content === "two" && messages[0]!.state === "sent",
      );
      expect(messages[0]).toMatchObject({ reactions: [{ reaction: "👍", count: 1, isMine: view === ben.view }] });
      expect(messages[0]!.editedAt).toBeString();
    }
    await anna.view.delete(id);
    for (const { view } of [anna, ben])
      await shows(view, ({ messages }) => messages[0]!.content === null && messages[0]!.reactions.length === 0);
  });

  test("[LOG3] [LOG4] a line that breaks is not seen: each message once, in order, and what is written meanwhile is sent", async () => {
    const { anna, ben } = await gather();
    await anna.view.send("one");
    await shows(ben.view, ({ messages }) => messages.length === 1);
    ben.cut();
    await anna.view.send("two");
    await ben.view.send("three");
    const isThere = (view: ConversationView) =>
      view.messages.length === 3 && view.messages.every(({ state }) => state === "sent");
    await Promise.all([anna, ben].map(({ view }) => shows(view, isThere)));
    expect(textsOf(anna.view.current)).toEqual(textsOf(ben.view.current));
    expect(textsOf(ben.view.current).sort()).toEqual(["one", "three", "two"]);
  });

  test("[TYP1] [PRE3] who types and who is here", async () => {
    const { anna, ben } = await gather();
    ben.view.typing.keystroke();
    await shows(anna.view, ({ typing }) => typing.includes(ben.client.userId!));
    ben.view.typing.stop();
    await shows(anna.view, ({ typing }) => typing.length === 0);
    const people = anna.client.presence([ben.client.userId!]);
    await ben.client.setPresence({ status: "busy", statusText: "in a meeting" });
    const shown = await shows(people, (people) => people.get(ben.client.userId!)?.status === "busy");
    expect([...shown.values()][0]!.statusText).toBe("in a meeting");
    await ben.client.setPresence({ status: "online", statusText: null });
    ben.client.stop();
    const gone = await shows(people, (people) => people.get(ben.client.userId!)?.status === "offline");
    expect([...gone.values()][0]!.lastSeen).toBeString();
  });

  test("[LOG8] [REC3] who comes later has the list and scrolls back to the beginning", async () => {
    const { server, id, anna } = await gather();
    for (let n = 1; n <= 60; n++) await anna.view.send(`${n}`);
    await shows(anna.view, ({ messages }) => messages.length === 60 && messages.every(({ state }) => state === "sent"));
    const { client } = chatter({ url: server.url, userId: fresh("cleo"), webSocket: server.line().webSocket });
    const view = opened(client.conversation(id));
    await shows(view, ({ status, isLoadingOlder }) => status === "live" && !isLoadingOlder);
    while (view.current.hasOlder) await view.loadOlder();
    expect(textsOf(view.current)).toEqual(Array.from({ length: 60 }, (_, at) => `${at + 1}`));
    const { items } = await shows(client.conversations(), ({ items }) => items[0]?.lastMessage?.content === "60");
    expect(items.map(({ id, unread }) => [id, unread])).toEqual([[id, 0]]);
  });

  test("[MSG5] [MEM1] [ENV4] who is muted sees it, and what is refused has failed", async () => {
    const { server, id, anna, ben } = await gather();
    const benId = ben.client.userId!;
    await server.setMayWrite(id, benId, false);
    await shows(ben.view, ({ mayWrite }) => !mayWrite);
    await ben.view.send("Still here?");
    const { messages } = await shows(ben.view, ({ messages }) => messages[0]?.state === "failed");
    expect(messages[0]!.error!.code).toBe("forbidden");
    await server.setMayWrite(id, benId, true);
    await shows(ben.view, ({ mayWrite }) => mayWrite);
    await ben.view.retry(messages[0]!.id);
    await shows(anna.view, ({ messages }) => messages.length === 1);
    expect(await anna.view.loadMembers()).toContain(benId);
  });

  test("[MSG4] an event of the application's own", async () => {
    const { anna, ben } = await gather();
    const voted = new Promise<[string, number]>((resolve) =>
      anna.client.on("poll.vote", ({ user_id, data }) => resolve([user_id, data.option])),
    );
    await ben.view.sendEvent("poll.vote", { option: 2 }, { clientEventId: "v1" });
    expect(await voted).toEqual([ben.client.userId!, 2]);
  });
});
