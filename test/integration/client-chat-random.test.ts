/** Plays any sequence of what users, devices, lines and the service itself do, on the real one: in the end all that are there show the same as one that comes now. */
import { afterAll, afterEach, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import fc from "fast-check";
import type { Client } from "../../src/client/client.ts";
import type { Conversation, ConversationView } from "../../src/client/conversations/conversation.ts";
import type { ConversationListView } from "../../src/client/conversations/list.ts";
import { MemoryStore } from "../../src/client/stores/memory.ts";
import { chatter, live, network, opened, shows, stopChatters } from "../support/chatters.ts";
import { fresh } from "../support/people.ts";
import { type Service, startService } from "../support/service.ts";

setDefaultTimeout(120_000);

let service: Service;
beforeAll(async () => {
  service = await startService();
});
afterEach(() => stopChatters());
afterAll(() => service.stop());

const step = fc.record({
  kind: fc.constantFrom(
    ...(["send", "send", "send", "edit", "delete", "react", "unreact", "read"] as const),
    ...(["burst", "off", "off", "on", "on", "leave", "leave", "look", "look", "older", "restart", "list"] as const),
    ...(["wait", "wait", "server"] as const),
  ),
  device: fc.nat(3),
  which: fc.nat(1_000),
  room: fc.nat(1),
});
type Step = typeof step extends fc.Arbitrary<infer It> ? It : never;

/** A device of a user: a client, what it looks at, and its line. */
class Device {
  readonly line = network();
  readonly #store = new MemoryStore();
  readonly #leaves = new Map<string, () => void>();
  client!: Client;

  constructor(
    readonly userId: string,
    readonly name: string,
    readonly rooms: readonly string[],
  ) {
    this.start();
  }

  start(): void {
    const { userId, line } = this;
    const keep = { conversations: 2, messages: 5 };
    const options = {
      url: service.url,
      userId,
      deviceId: this.name,
      store: this.#store,
      webSocket: line.webSocket,
      keep,
    };
    this.client = chatter(options).client;
  }

  async restart(): Promise<void> {
    this.#leaves.clear();
    await this.client.stop();
    this.start();
  }

  room(n: number): Conversation {
    return this.client.conversation(this.rooms[n]!);
  }

  look(what: number | "list", isWanted: boolean): void {
    const key = String(what);
    this.#leaves.get(key)?.();
    this.#leaves.delete(key);
    const live = what === "list" ? this.client.conversations() : this.room(what);
    if (isWanted)
      this.#leaves.set(
        key,
        live.subscribe(() => {}),
      );
  }
}

/** Kills it, wherever it is. */
async function restartService(): Promise<void> {
  const { folder, port } = service;
  await service.kill();
  service = await startService({ folder, settings: { SERVER__PORT: String(port) } });
}

let texts = 0;

async function play(device: Device, { kind, which, room: n }: Step): Promise<void> {
  const room = device.room(n);
  const { messages } = room.current;
  const message = messages[which % Math.max(1, messages.length)];
  const reaction = which % 2 === 0 ? "+" : "-";
  switch (kind) {
    case "send":
      return void (await room.send(`${device.name} ${++texts}`));
    case "burst":
      for (let n = 0; n < which % 60; n++) await room.send(`${device.name} ${++texts}`);
      return;
    case "off":
      return device.line.off();
    case "on":
      return device.line.on();
    case "look":
    case "leave":
      return device.look(n, kind === "look");
    case "list":
      return device.look("list", which % 3 !== 0);
    case "older":
      return void room.loadOlder().catch(() => {});
    case "read":
      return room.markRead(message?.seq ?? undefined);
    case "restart":
      return device.restart();
    case "server":
      return which % 4 === 0 ? restartService() : undefined;
    case "wait":
      return void (await Bun.sleep(which % 60));
  }
  if (message === undefined || (kind === "edit" && message.deletedAt !== null)) return;
  // Not waited for: what is on its way has no place yet, and the line may be off.
  const ask = { edit: () => room.edit(message.id, `edited ${++texts}`), delete: () => room.delete(message.id) };
  const asked = kind === "edit" || kind === "delete" ? ask[kind]() : room.react(message.id, reaction, kind === "react");
  asked.catch(() => {});
}

const isRest = ({ status, isLoadingOlder, messages }: ConversationView) =>
  status === "live" && !isLoadingOlder && messages.every(({ state }) => state === "sent");

/** Gives that on which two who have the same must agree: all that both have. */
const shown = ({ messages }: ConversationView, count: number) =>
  messages.slice(-count).map(({ content, key, senderId, reactions }) => {
    return [
      key,
      senderId,
      content,
      reactions.map(({ reaction, userIds }) => [reaction, ...[...userIds].sort()]).sort(),
    ];
  });

/** Waits until nothing is under way; what was refused is given up, whenever that is said. */
function rest(device: Device, n: number): Promise<ConversationView> {
  const room = device.room(n);
  const isAtRest = (view: ConversationView) => {
    for (const { id, state } of view.messages) if (state === "failed") void room.discard(id);
    return isRest(view);
  };
  return shows(room, isAtRest).catch((error) => {
    throw new Error(`${device.name} ${JSON.stringify(device.client.state)} ${error.message}`);
  });
}

/** Waits until a device shows what one does that comes now, in the room and in the list. */
async function sameOn(
  device: Device,
  now: Client,
  { n, truth }: { n: number; truth: ConversationView },
): Promise<void> {
  const room = device.room(n);
  const told = (view: ConversationView, count: number) => [view.unread, shown(view, count)];
  const isSame = (view: ConversationView) => {
    const count = Math.min(view.messages.length, truth.messages.length);
    return Bun.deepEquals(told(view, count), told(truth, count));
  };
  await shows(room, isSame).catch((error) => {
    const count = Math.min(room.current.messages.length, truth.messages.length);
    expect([device.name, ...told(room.current, count)]).toEqual([device.name, ...told(truth, count)]);
    throw error;
  });
  const [mine, theirs] = [device.client.conversations(), now.conversations()];
  const itemsOf = (list: ConversationListView) =>
    list.items.map(({ id, unread, lastMessage }) => [id, unread, lastMessage?.key, lastMessage?.content]);
  await shows(opened(theirs), ({ status }) => status === "live");
  const isSameList = (list: ConversationListView) => Bun.deepEquals(itemsOf(list), itemsOf(theirs.current));
  await shows(opened(mine), (list) => list.status === "live" && isSameList(list)).catch((error) => {
    expect([device.name, ...itemsOf(mine.current)]).toEqual([device.name, ...itemsOf(theirs.current)]);
    throw error;
  });
}

test("[LOG3] [LOG4] [MSG2] [MSG3] [REC3] whatever users do on whatever lines, in the end all show the same", async () => {
  // A failure prints the seed and the path; TEST_SEED runs the same again.
  const seed = Number(Bun.env.TEST_SEED ?? Math.floor(Math.random() * 2 ** 31));
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 20, maxLength: 120 }), async (steps) => {
      const rooms = [fresh("c"), fresh("c")];
      const [anna, ben] = [fresh("anna"), fresh("ben")];
      const devices = [
        new Device(anna, "phone", rooms),
        new Device(anna, "laptop", rooms),
        new Device(ben, "desk", rooms),
      ];
      devices.push(new Device(ben, "tablet", rooms));
      for (const device of devices) {
        await live(device.client);
        device.look(0, true);
        device.look(1, true);
        for (const n of [0, 1]) await shows(device.room(n), ({ status }) => status === "live");
      }
      for (const it of steps) await play(devices[it.device]!, it);
      for (const { line } of devices) line.on();
      for (const n of [0, 1])
        for (const device of devices) {
          device.look(n, true);
          await rest(device, n);
        }
      for (const n of [0, 1]) {
        for (const device of devices) await rest(device, n);
        for (const [at, { userId, name }] of devices.entries()) {
          const { client } = chatter({ url: service.url, userId, deviceId: `${name}-now` });
          const truth = await shows(opened(client.conversation(rooms[n]!)), isRest).catch((error) => {
            throw new Error(`${name} now ${JSON.stringify(client.state)} ${error.message}`);
          });
          await sameOn(devices[at]!, client, { n, truth });
          await client.stop();
        }
      }
      await stopChatters();
    }),
    { seed, numRuns: 6, endOnFailure: true, includeErrorInReport: true },
  );
});
