/** Shows what becomes of a call whose two devices lose each other, by a connection and a clock that a test moves by hand [CALL1] [CALL7]. */
import { expect, test } from "bun:test";
import { LocalMedia } from "../../src/client/calls/local-media.ts";
import { Negotiation } from "../../src/client/calls/negotiation.ts";
import { ServerError } from "../../src/client/errors.ts";
import { createHandClock } from "../support/hand-clock.ts";

const settled = () => new Promise<void>((resolve) => setImmediate(resolve));
let sessions = 0;
const sdpOf = (session: number) => `v=0\r\no=- ${session} 2 IN IP4 127.0.0.1\r\n`;

/** Goes through the states of a real one, and finds nobody. */
class HandPeer extends EventTarget {
  readonly session = ++sessions;
  signalingState = "stable";
  connectionState = "new";
  remoteDescription: object | null = null;
  restarts = 0;
  constructor(readonly configuration: { iceServers: { urls: string }[] }) {
    super();
  }
  async createOffer() {
    return { type: "offer", sdp: sdpOf(this.session) };
  }
  async createAnswer() {
    return { type: "answer", sdp: sdpOf(this.session) };
  }
  async setLocalDescription({ type }: { type: string }) {
    this.signalingState = type === "offer" ? "have-local-offer" : "stable";
  }
  async setRemoteDescription(description: { type: string }) {
    this.signalingState = description.type === "offer" ? "have-remote-offer" : "stable";
    this.remoteDescription = description;
  }
  restartIce() {
    this.restarts++;
  }
  become(state: string) {
    this.connectionState = state;
    this.dispatchEvent(new Event("connectionstatechange"));
  }
  getSenders = () => [];
  getTransceivers = () => [];
  close() {
    this.signalingState = "closed";
  }
}

function begin(refuse: (type: string) => ServerError | null = () => null) {
  const clock = createHandClock({ settled });
  const peers: HandPeer[] = [];
  const asked: string[] = [];
  const failures: string[] = [];
  class Peer extends HandPeer {
    constructor(configuration: HandPeer["configuration"]) {
      super(configuration);
      peers.push(this);
    }
  }
  const rtc = { RTCPeerConnection: Peer, MediaStream: class {}, getUserMedia: async () => null } as never;
  let credentials = 0;
  const negotiation = new Negotiation({
    ...{ callId: "c", rtc, clock, local: new LocalMedia(rtc), media: () => "audio" },
    iceServers: async () => [{ urls: `turn:${++credentials}` }],
    async ask(type) {
      const error = refuse(type);
      asked.push(error?.code ?? type);
      if (error !== null) throw error;
      return {} as never;
    },
    onChange() {},
    onFailed: (reason) => failures.push(reason),
  });
  return { clock, peers, asked, failures, negotiation };
}

/** A call that this side has placed, and in which both hear each other. */
async function beginConnected(refuse?: (type: string) => ServerError | null) {
  const it = begin(refuse);
  await it.negotiation.place({ to_user_id: "ben", media: "audio" });
  it.negotiation.takeAnswer(sdpOf(1_000));
  await settled();
  it.peers[0]!.become("connected");
  it.asked.length = 0;
  return it;
}

test("[CALL1] a connection that breaks for a moment is left alone, one that does not come back is looked for anew", async () => {
  const { clock, peers, asked, failures } = await beginConnected();
  const [peer] = peers as [HandPeer];
  peer.become("disconnected");
  await clock.pass(1_500);
  peer.become("connected");
  await clock.pass(60_000);
  expect([peer.restarts, asked, failures]).toEqual([0, [], []]);

  peer.become("disconnected");
  await clock.pass(2_500);
  expect([peer.restarts, asked]).toEqual([1, ["call.offer"]]);
  expect(clock.waiting()).toBeGreaterThan(0);
});

test("[CALL4] devices that do not find each other within 30 s give it up; those that do go on", async () => {
  const lost = await beginConnected();
  lost.peers[0]!.become("failed");
  await lost.clock.pass(29_000);
  expect(lost.failures).toEqual([]);
  await lost.clock.pass(2_000);
  expect(lost.failures).toEqual(["ice_failed"]);

  const found = await beginConnected();
  found.peers[0]!.become("failed");
  await settled();
  found.negotiation.takeAnswer(sdpOf(1_000));
  await settled();
  found.peers[0]!.become("connected");
  await found.clock.pass(60_000);
  expect(found.failures).toEqual([]);
  expect(found.clock.waiting()).toBe(0);
});

test("[CALL7] an offer that nobody answers is made again, until one is answered", async () => {
  const { clock, peers, asked, negotiation } = await beginConnected();
  negotiation.restart();
  await clock.pass(9_000);
  expect(asked).toEqual(["call.offer"]);
  await clock.pass(2_000);
  expect(asked).toEqual(["call.offer", "call.offer"]);
  negotiation.takeAnswer(sdpOf(1_000));
  await clock.pass(60_000);
  expect(asked).toHaveLength(2);
  expect(peers).toHaveLength(1);
});

test("[CALL7] a conflict leaves nothing to be taken back, and another page takes another connection, with servers asked for anew", async () => {
  const conflict = new ServerError({ code: "call_conflict", message: "Theirs is first.", retryable: false });
  let isFirst = false;
  const { peers, asked, failures, negotiation } = await beginConnected((type) =>
    isFirst && type === "call.offer" ? conflict : null,
  );
  isFirst = true;
  negotiation.restart();
  negotiation.takeOffer(sdpOf(1_000));
  await settled();
  expect([asked, peers[0]!.signalingState, peers.length]).toEqual([["call_conflict", "call.answer"], "stable", 1]);
  negotiation.takeOffer(sdpOf(1_001));
  await settled();
  expect(peers.map(({ configuration }) => configuration.iceServers[0]!.urls)).toEqual(["turn:1", "turn:2"]);
  expect(peers.map(({ signalingState }) => signalingState)).toEqual(["closed", "stable"]);
  expect(failures).toEqual([]);
});

test("[CALL7] sides that never come to terms do not go on for ever", async () => {
  const conflict = new ServerError({ code: "call_conflict", message: "There is no offer.", retryable: false });
  const { failures, negotiation } = await beginConnected((type) => (type === "call.answer" ? conflict : null));
  for (let n = 0; n < 20; n++) {
    negotiation.takeOffer(sdpOf(2_000 + n));
    await settled();
  }
  expect(failures[0]).toBe("error");
});
