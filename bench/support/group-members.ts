/** Members of groups, as they speak with the service and with Tinode: they join, send, mark what others sent, and hear. */

export interface Heard {
  /** A message of another member: its mark is sent by what is given. */
  onMessage(mark: () => void): void;
  onReceipt(): void;
  /** A request of this name was answered. */
  onAnswer(id: string): void;
  onFailure(why: string): void;
}

export interface Member {
  send(id: string, content: string): void;
}

/** @returns once it is in its group, as one of its members, and hears of it */
export type Join = (at: { port: number; user: string; group: string; heard: Heard }) => Promise<Member>;

/** Names a mark's request: not all contenders answer one. */
export const markName = (() => {
  const run = crypto.randomUUID().slice(0, 8);
  let marks = 0;
  return () => `m${run}-${++marks}`;
})();

const joinService: Join = async ({ port, user, group, heard }) => {
  const socket = new WebSocket(`ws://127.0.0.1:${port}/ws?user_id=${user}&device_id=${user}`);
  const say = (id: string, type: string, payload: object) => socket.send(JSON.stringify({ id, type, payload }));
  const { promise, resolve } = Promise.withResolvers<Member>();
  socket.onclose = ({ code, reason }) => heard.onFailure(`${user} closed: ${code} ${reason}`);
  socket.onopen = () => say("join", "subscribe", { topics: [`conversation:${group}`] });
  socket.onmessage = ({ data }) => {
    const text = data as string;
    const type = /"type":"([\w.]+)"/.exec(text)?.[1];
    if (type === "error") heard.onFailure(text);
    if (type === "message.delivered") heard.onReceipt();
    const answered = /"reply_to":"([\w-]+)"/.exec(text)?.[1];
    if (answered === "join")
      resolve({
        // Its name is the request's too.
        send: (id, content) => say(id, "message.send", { conversation_id: group, client_message_id: id, content }),
      });
    else if (answered !== undefined) heard.onAnswer(answered);
    if (type !== "message.new") return;
    const { message_id: id, sender_id: sender } = (
      JSON.parse(text) as { payload: { message_id: string; sender_id: string } }
    ).payload;
    if (sender !== user)
      heard.onMessage(() => say(markName(), "mark.delivered", { conversation_id: group, message_ids: [id] }));
  };
  return promise;
};

/** Of the salt that its configuration has here. */
const tinodeKey = "AQAAAAABAAAoeOI7tA3HsYvdzDhYhZJy";
/** Topics that were made, by group: the first member makes it, and the others wait for its name. */
const tinodeTopics = new Map<string, PromiseWithResolvers<string>>();

const joinTinode: Join = async ({ port, user, group, heard }) => {
  const made = tinodeTopics.get(group);
  const topicIs = made ?? Promise.withResolvers<string>();
  tinodeTopics.set(group, topicIs);
  const socket = new WebSocket(`ws://127.0.0.1:${port}/v0/channels?apikey=${tinodeKey}`);
  const say = (message: object) => socket.send(JSON.stringify(message));
  const answers = new Map<string, (ctrl: TinodeAnswer) => void>();
  const asked = (kind: string, body: object) => {
    const { promise, resolve } = Promise.withResolvers<TinodeAnswer>();
    answers.set(kind, resolve);
    say({ [kind]: { id: kind, ...body } });
    return promise;
  };
  let own = "";
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
    else if (message !== undefined && message.from !== own)
      heard.onMessage(() => say({ note: { topic: message.topic, what: "recv", seq: message.seq } }));
  };
  await new Promise((opened) => socket.addEventListener("open", opened));
  await asked("hi", { ver: "0.25", ua: "bench" });
  const secret = Buffer.from(`${user.replace("-", "")}:secret-of-${user}`).toString("base64");
  const account = await asked("acc", { user: "new", scheme: "basic", secret, login: true, desc: {} });
  own = account.params!.user!;
  const topic = made === undefined ? "new" : await topicIs.promise;
  const access = { set: { desc: { defacs: { auth: "JRWPS", anon: "N" } } } };
  const joined = await asked("sub", { topic, ...(made === undefined ? access : {}) });
  topicIs.resolve(joined.topic!);
  return { send: (id, content) => say({ pub: { id, topic: joined.topic, content } }) };
};

interface TinodeAnswer {
  id?: string;
  code: number;
  topic?: string;
  params?: { user?: string };
}

interface TinodeMessage {
  ctrl?: TinodeAnswer;
  data?: { topic: string; from: string; seq: number };
  info?: { what: string };
}

export const joining = { service: joinService, tinode: joinTinode };
export type GroupDialect = keyof typeof joining;
