/** How a client speaks with each contender: it connects, subscribes to rooms, publishes, and knows what it is told. */
import { issueToken } from "../peers/token.ts";

/** A connection as a dialect sees it. */
export interface Speaker {
  user: string;
  roles: string[] | undefined;
  rooms: string[];
  /** Events that it missed, where it takes up again where it was. */
  missed: number | undefined;
  isReady: boolean;
  send(text: string): void;
  ready(): void;
  acked(): void;
  failed(why: string): void;
}

/** Places in the log that the clients of one contender have heard of, by room where each has its own. */
export type Places = Map<string, string>;

export type Mode = "ephemeral" | "published" | "logged";

export interface Publication {
  mode: Mode;
  room: string;
  /** Different for each publication of a run. */
  id: number;
  text: string;
}

export interface Dialect {
  address(speaker: Speaker, places: Places): { path: string; headers?: Record<string, string> };
  opened(speaker: Speaker, places: Places): void;
  /** Reads a frame that may also hold events, which are counted by their marks. */
  read(text: string, speaker: Speaker, places: Places): void;
  publish(publication: Publication): string;
  /** Where its backends post what they publish; otherwise that goes over a publisher's socket. */
  postsTo?: string;
}

const run = crypto.randomUUID().slice(0, 8);
const quoted = (rooms: string[], prefix = "") => rooms.map((room) => `"${prefix}${room}"`).join(",");

const service: Dialect = {
  address: ({ user, roles, missed }, places) => ({
    path: `/ws?device_id=${user}${missed !== undefined ? `&since=${places.get("")}` : ""}`,
    headers: { Authorization: `Bearer ${issueToken(user, roles && { roles })}` },
  }),
  opened({ rooms, missed, send }, places) {
    if (rooms.length === 0) return;
    const since = missed !== undefined ? `,"since":{"cursor":"${places.get("")}"}` : "";
    send(`{"id":"s","type":"subscribe","payload":{"topics":[${quoted(rooms, "conversation:")}]${since}}}`);
  },
  read(text, speaker, places) {
    if (text.includes('"type":"error"')) speaker.failed(text);
    else if (speaker.isReady) {
      if (text.includes('"type":"ack"')) speaker.acked();
    } else if (text.includes('"reply_to":"s"')) {
      if (!text.includes('"rejected":[]')) speaker.failed(text);
      const { payload } = JSON.parse(text) as { payload: { cursor: string | number } };
      if (speaker.missed === undefined) places.set("", String(payload.cursor));
      speaker.ready();
    } else if (speaker.rooms.length === 0 && text.includes('"type":"subscribed"')) speaker.ready();
  },
  publish({ mode, room, id, text }) {
    const to = `"conversation_id":"${room}"`;
    if (mode === "logged")
      return `{"id":"${id}","type":"message.send","payload":{${to},"client_message_id":"${run}-${id}","content":"${text}"}}`;
    const logged = mode === "ephemeral" ? ',"logged":false' : "";
    return `{"id":"${id}","type":"publish","payload":{${to},"type":"note","payload":{"c":"${text}"}${logged}}}`;
  },
};

const raw: Dialect = {
  address: ({ user }) => ({ path: `/ws?token=${issueToken(user)}` }),
  opened({ rooms, missed, send, ready }) {
    if (rooms.length === 0) ready();
    // The platform keeps nothing: it sends as much as others do for what was missed.
    else send(`{"t":"sub","rooms":[${quoted(rooms)}],"missed":${missed ?? 0}}`);
  },
  read(text, speaker) {
    if (text.startsWith('{"t":"ack"')) speaker.acked();
    else if (text.startsWith('{"t":"subok"')) speaker.ready();
  },
  publish: ({ room, id, text }) => `{"t":"pub","id":${id},"room":"${room}","c":"${text}"}`,
};

const socketIo: Dialect = {
  address: () => ({ path: "/socket.io/?EIO=4&transport=websocket" }),
  opened() {},
  read(text, speaker) {
    if (text.startsWith("0")) speaker.send(`40{"token":"${issueToken(speaker.user)}"}`);
    else if (text === "2") speaker.send("3");
    else if (text.startsWith("44")) speaker.failed(text);
    else if (text.startsWith("40")) {
      if (speaker.rooms.length === 0) speaker.ready();
      else speaker.send(`420["sub",[${quoted(speaker.rooms)}]]`);
    } else if (text.startsWith("43")) {
      if (speaker.isReady) speaker.acked();
      else speaker.ready();
    }
  },
  publish: ({ room, id, text }) => `42${id}["pub",{"room":"${room}","c":"${text}"}]`,
};

/** Requests of Centrifugo are numbered: 1 connects, the next ones subscribe, and publications come far above them. */
const firstPublication = 1_000;

const centrifugo: Dialect = {
  address: () => ({ path: "/connection/websocket" }),
  opened: ({ user, send }) => send(`{"id":1,"connect":{"token":"${issueToken(user)}","name":"bench"}}`),
  read(text, speaker, places) {
    for (const line of text.split("\n")) {
      if (line === "{}") speaker.send("{}");
      else if (line.includes('"error":') || line.includes('"disconnect":')) speaker.failed(line);
      else if (speaker.isReady) {
        if (line.includes('"publish":')) speaker.acked();
      } else if (line.includes('"subscribe":')) subscribed(line, speaker, places);
      else if (line.includes('"connect":')) subscribe(speaker, places);
    }
  },
  publish: ({ room, id, text }) =>
    `{"id":${id + firstPublication},"publish":{"channel":"${room}","data":{"c":"${text}"}}}`,
};

function subscribe({ rooms, missed, send, ready }: Speaker, places: Places): void {
  if (rooms.length === 0) return ready();
  const requests = rooms.map((room, index) => {
    const recover = missed !== undefined ? `,"recover":true,${places.get(room)}` : "";
    return `{"id":${index + 2},"subscribe":{"channel":"${room}"${recover}}}`;
  });
  send(requests.join("\n"));
}

function subscribed(line: string, speaker: Speaker, places: Places): void {
  const { id, subscribe } = JSON.parse(line) as {
    id: number;
    subscribe: { epoch?: string; offset?: number; recovered?: boolean };
  };
  if (speaker.missed !== undefined && subscribe.recovered !== true) speaker.failed(line);
  if (speaker.missed === undefined && subscribe.epoch !== undefined)
    places.set(speaker.rooms[id - 2]!, `"epoch":"${subscribe.epoch}","offset":${subscribe.offset ?? 0}`);
  // Answered in order: the last one is that of the last room.
  if (id - 1 === speaker.rooms.length) speaker.ready();
}

const anyCable: Dialect = {
  address: ({ user }) => ({
    path: `/cable?jid=${issueToken(user, { ext: "{}" })}`,
    headers: { "Sec-WebSocket-Protocol": "actioncable-v1-json" },
  }),
  opened() {},
  read(text, speaker) {
    if (text.includes('"type":"welcome"')) {
      if (speaker.rooms.length === 0) speaker.ready();
      for (const room of speaker.rooms) speaker.send(`{"command":"subscribe","identifier":${streamOf(room)}}`);
    } else if (text.includes('"type":"confirm_subscription"')) {
      // Answered in order: the last one is that of the last room.
      if (text.includes(streamOf(speaker.rooms.at(-1)!))) speaker.ready();
    } else if (text.includes('"type":"reject_subscription"') || text.includes('"type":"disconnect"'))
      speaker.failed(text);
  },
  publish: ({ room, text }) => JSON.stringify({ stream: room, data: JSON.stringify({ c: text }) }),
  postsTo: "/_broadcast",
};

/** A public stream as a client names it, in JSON within JSON. */
const streamOf = (room: string) => JSON.stringify(JSON.stringify({ channel: "$pubsub", stream_name: room }));

export const dialects = { service, raw, "socket.io": socketIo, centrifugo, anycable: anyCable };
export type DialectName = keyof typeof dialects;
