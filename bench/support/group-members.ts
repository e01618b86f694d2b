/** Members of groups, as they speak with the service and with Tinode: they join, send, mark what others sent, hear, and come back. */
import { issueToken } from "../peers/token.ts";

export interface Heard {
  /** A message of another member: its mark is sent by what is given. */
  onMessage(mark: () => void): void;
  onReceipt(): void;
  /** A request of this name was answered. */
  onAnswer(id: string): void;
  onFailure(why: string): void;
}

export interface Member {
  send(id: string, content: string, topic?: number): void;
  /** Is gone, from the place that it has come to. */
  leave(): Promise<void>;
  /** Comes back to so many messages that it has missed in all of its topics. */
  comeBack(missed: number): Promise<void>;
}

/** @returns once it is in its group, as one of its members, and hears of all the topics that the group has */
export type Join = (at: { port: number; user: string; group: string; topics: number; heard: Heard }) => Promise<Member>;

/** Names a mark's request: not all contenders answer one. */
export const markName = (() => {
  const run = crypto.randomUUID().slice(0, 8);
  let marks = 0;
  return () => `m${run}-${++marks}`;
})();

const namesOf = (group: string, topics: number) => Array.from({ length: topics }, (_, topic) => `${group}-${topic}`);

const joinService: Join = async ({ port, user, group, topics, heard }) => {
  const conversations = namesOf(group, topics);
  const token = issueToken(user);
  let socket: WebSocket;
  let cursor = "";
  let onMissed = () => {};
  const say = (id: string, type: string, payload: object) => socket.send(JSON.stringify({ id, type, payload }));
  const come = () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    const from = cursor === "" ? "" : `&since=${cursor}`;
    const since = cursor === "" ? {} : { since: { cursor } };
    socket = new WebSocket(`ws://127.0.0.1:${port}/ws?token=${token}&device_id=${user}${from}`);
    socket.onclose = ({ code, reason }) => heard.onFailure(`${user} closed: ${code} ${reason}`);
    socket.onopen = () =>
      say("join", "subscribe", { topics: conversations.map((name) => `conversation:${name}`), ...since });
    socket.onmessage = ({ data }) => {
      const text = data as string;
      const type = /"type":"([\w.]+)"/.exec(text)?.[1];
      if (type === "error") heard.onFailure(text);
      if (type === "message.delivered") heard.onReceipt();
      const answered = /"reply_to":"([\w-]+)"/.exec(text)?.[1];
      if (answered === "join") resolve();
      else if (answered === "leave") leaveFrom(text);
      else if (answered !== undefined) heard.onAnswer(answered);
      if (type !== "message.new") return;
      onMissed();
      const { payload } = JSON.parse(text) as {
        payload: { message_id: string; sender_id: string; conversation_id: string };
      };
      const { message_id: id, sender_id: sender, conversation_id } = payload;
      if (sender !== user)
        heard.onMessage(() => say(markName(), "mark.delivered", { conversation_id, message_ids: [id] }));
    };
    return promise;
  };
  const leaveFrom = (pong: string) => {
    ({ cursor } = (JSON.parse(pong) as { payload: { cursor: string } }).payload);
    socket.onclose = null;
    socket.close(1000);
  };
  await come();
  return {
    // Its name is the request's too.
    send: (id, content, topic = 0) =>
      say(id, "message.send", { conversation_id: conversations[topic], client_message_id: id, content }),
    leave() {
      say("leave", "ping", {});
      return new Promise((left) => socket.addEventListener("close", () => left()));
    },
    async comeBack(missed) {
      const all = counted(missed);
      onMissed = all.count;
      await Promise.all([come(), all.promise]);
    },
  };
};

/** Resolves once it was counted so far. */
function counted(number: number): { count: () => void; promise: Promise<void> } {
  const { promise, resolve } = Promise.withResolvers<void>();
  let count = 0;
  return { promise, count: () => void (++count === number && resolve()) };
}

/** Of the salt that its configuration has here. */
const tinodeKey = "AQAAAAABAAAoeOI7tA3HsYvdzDhYhZJy";
/** Topics that were made, by name: the first member makes it, and the others wait for what it is called. */
const tinodeTopics = new Map<string, PromiseWithResolvers<string>>();

const joinTinode: Join = async ({ port, user, group, topics, heard }) => {
  let socket: WebSocket;
  let answers = new Map<string, (ctrl: TinodeAnswer) => void>();
  let own = "";
  let onMissed = () => {};
  /** The last number of each topic. */
  const seen = new Map<string, number>();
  const say = (message: object) => socket.send(JSON.stringify(message));
  const asked = (kind: string, body: object, id = kind) => {
    const { promise, resolve } = Promise.withResolvers<TinodeAnswer>();
    answers.set(id, resolve);
    say({ [kind]: { id, ...body } });
    return promise;
  };
  const come = async () => {
    answers = new Map();
    socket = new WebSocket(`ws://127.0.0.1:${port}/v0/channels?apikey=${tinodeKey}`);
    socket.onclose = ({ code, reason }) => heard.onFailure(`${user} closed: ${code} ${reason}`);
    socket.onmessage = ({ data }) => {
      const { ctrl, data: message, info } = JSON.parse(data as string) as TinodeMessage;
      if (ctrl !== undefined) {
        if (ctrl.code >= 400) heard.onFailure(data as string);
        const { id } = ctrl;
        if (id === undefined) return;
        const answer = answers.get(id);
        if (answer === undefined) heard.onAnswer(id);
        else answer(ctrl);
      } else if (info?.what === "recv") heard.onReceipt();
      else if (message !== undefined) {
        seen.set(message.topic, message.seq);
        onMissed();
        if (message.from !== own)
          heard.onMessage(() => say({ note: { topic: message.topic, what: "recv", seq: message.seq } }));
      }
    };
    await new Promise((opened) => socket.addEventListener("open", opened));
    await asked("hi", { ver: "0.25", ua: "bench" });
  };
  await come();
  const secret = Buffer.from(`${user.replace("-", "")}:secret-of-${user}`).toString("base64");
  const account = await asked("acc", { user: "new", scheme: "basic", secret, login: true, desc: {} });
  own = account.params!.user!;
  const names: string[] = [];
  for (const name of namesOf(group, topics)) {
    const made = tinodeTopics.get(name);
    const topicIs = made ?? Promise.withResolvers<string>();
    tinodeTopics.set(name, topicIs);
    const topic = made === undefined ? "new" : await topicIs.promise;
    const access = { set: { desc: { defacs: { auth: "JRWPS", anon: "N" } } } };
    const joined = await asked("sub", { topic, ...(made === undefined ? access : {}) });
    topicIs.resolve(joined.topic!);
    names.push(joined.topic!);
  }
  return {
    send: (id, content, topic = 0) => say({ pub: { id, topic: names[topic], content } }),
    leave() {
      socket.onclose = null;
      socket.close(1000);
      return new Promise((left) => socket.addEventListener("close", () => left()));
    },
    async comeBack(missed) {
      const all = counted(missed);
      onMissed = all.count;
      await come();
      await asked("login", { scheme: "token", secret: account.params!.token });
      const subscribed = names.map((topic) =>
        asked("sub", { topic, get: { what: "data", data: { since: (seen.get(topic) ?? 0) + 1 } } }, topic),
      );
      await Promise.all([...subscribed, all.promise]);
    },
  };
};

interface TinodeAnswer {
  id?: string;
  code: number;
  topic?: string;
  params?: { user?: string; token?: string };
}

interface TinodeMessage {
  ctrl?: TinodeAnswer;
  data?: { topic: string; from: string; seq: number };
  info?: { what: string };
}

export const joining = { service: joinService, tinode: joinTinode };
export type GroupDialect = keyof typeof joining;
