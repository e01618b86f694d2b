/** Is a phone in a page: it does with the client's calls what a test says, and notes what happens, also on the wire and between the devices. */
import { type Call, Client } from "../../src/client/index.ts";

// The types here are Bun's, which has no page.
declare const location: any;
declare const navigator: any;
declare const RTCPeerConnection: any;

const query = new URLSearchParams(location.search);
const cameraSize = { width: 160, height: 120, frameRate: 5 };

/** Everything that has happened and that nobody has taken yet, and who waits for what. */
const happened: { what: string }[] = [];
const watchers = new Set<() => void>();
function note(what: string, detail: object = {}): void {
  happened.push({ what, ...detail });
  for (const look of [...watchers]) look();
}

const asked = new Map<string, string>();
class NotedSocket extends WebSocket {
  constructor(url: string, protocols?: string[]) {
    super(url, protocols);
    this.addEventListener("message", ({ data }) => {
      const { type, reply_to, topic, payload } = JSON.parse(String(data));
      const request = asked.get(reply_to);
      if (request !== undefined) note(type === "error" ? payload.code : `${request} acked`, { payload });
      if (type.startsWith("call.") && topic === undefined) note(type, { payload });
      const found = type === "subscribed" && payload.topics.find((it: any) => it.topic.startsWith("calls:"));
      if (found?.snapshot?.calls !== undefined) note("found", { calls: found.snapshot.calls });
    });
    this.addEventListener("close", ({ code }) => note("closed", { code }));
  }

  override send(text: string): void {
    const { id, type } = JSON.parse(text);
    if (type.startsWith("call.")) {
      asked.set(id, type);
      note(`${type} asked`);
    }
    super.send(text);
  }
}

const peers: any[] = [];
const ufragOf = (description: any) => /^a=ice-ufrag:(\S+)/m.exec(description?.sdp ?? "")?.[1];
class NotedPeer extends RTCPeerConnection {
  constructor(configuration: any) {
    super(configuration);
    peers.push(this);
    const self = this as any;
    self.addEventListener("signalingstatechange", () => {
      const ufrags = [self.localDescription, self.remoteDescription].map(ufragOf);
      if (self.signalingState === "stable") note("agreed", { ufrags });
    });
  }
}

const client = new Client({
  url: query.get("socket")!,
  userId: query.get("user_id")!,
  ...(query.has("device_id") && { deviceId: query.get("device_id")! }),
  tabs: !query.has("device_id"),
  webSocket: NotedSocket,
  calls: {
    rtc: {
      RTCPeerConnection: NotedPeer as any,
      getUserMedia({ audio, video }) {
        if (query.has("no_media")) return Promise.reject(new Error("There is no microphone."));
        return navigator.mediaDevices.getUserMedia({ audio, video: video && cameraSize });
      },
    },
  },
});

let call: Call;
function follow(it: Call): void {
  call = it;
  let last = "";
  let wasBusy = false;
  const look = () => {
    const { state, localStream, remoteStream, ...view } = it.current;
    if (state !== last) note(state, { view: { ...view, state } });
    // Seen a moment later than the answer on the wire.
    if (view.busy && !wasBusy) note("busy");
    wasBusy = view.busy;
    last = state;
  };
  it.subscribe(look);
  look();
}
client.on("error", (error) => note("trouble", { text: String(error) }));
client.on("state", ({ status }) => note(status));
client.on("call", (it) => {
  note("call", { view: { ...it.current } });
  follow(it);
});
client.start();

/** Bytes that have come of each kind. */
async function received(): Promise<Record<string, number>> {
  const bytes: Record<string, number> = { audio: 0, video: 0 };
  for (const { type, kind, bytesReceived } of (await peers.at(-1).getStats()).values())
    if (type === "inbound-rtp") bytes[kind]! += bytesReceived;
  return bytes;
}

const phone = {
  client,
  /** Takes the first of its kind, now or later. */
  when: (what: string) =>
    new Promise((resolve) => {
      const look = () => {
        const at = happened.findIndex((it) => it.what === what);
        if (at < 0) return;
        watchers.delete(look);
        resolve(happened.splice(at, 1)[0]);
      };
      watchers.add(look);
      look();
    }),
  live: () => phone.when("live"),
  all: () => happened,
  peerCount: () => peers.length,
  view() {
    const { localStream, remoteStream, error, ...view } = call.current;
    const kindsOf = (stream: any) =>
      stream
        ?.getTracks()
        .map(({ kind }: any) => kind)
        .sort() ?? null;
    return { ...view, local: kindsOf(localStream), remote: kindsOf(remoteStream), error: error && String(error) };
  },
  callIds: () => client.calls.current.map(({ id }) => id),
  call(userId: string, media: "audio" | "video") {
    follow(client.call(userId, { media }));
    return call.id;
  },
  answer: (options = {}) => call.accept(options),
  decline: (reason?: "busy") => call.decline(reason),
  setMedia: (media: "audio" | "video") => call.setMedia(media),
  mute: (isMuted: boolean) => call.setMuted(isMuted),
  hangUp: () => call.hangUp(),
  restart: () => peers.at(-1).restartIce(),
  /** Resolves once more of each kind has come. */
  async flows(kinds: string[]) {
    let peer = peers.at(-1);
    let before = await received();
    for (;;) {
      if (peers.at(-1) !== peer) [peer, before] = [peers.at(-1), { audio: 0, video: 0 }];
      const now = await received();
      if (kinds.every((kind) => now[kind]! > before[kind]!)) return now;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  },
};
Object.assign(globalThis, { phone });
