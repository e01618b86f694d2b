/** Proves in a real browser what the README shows, what a page may do, and that two pages can call each other. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { join } from "node:path";
import type { Browser, Page } from "playwright-core";
import { subprotocols } from "../../src/protocol/limits.ts";
import { protobufPeer } from "../../src/protocol/protobuf/codec.ts";
import { launchChromium } from "../support/chromium.ts";
import { projectFolder } from "../support/program.ts";
import { type Service, startService } from "../support/service.ts";

/** Lets page scripts share with the test all that a socket received, and what is still waited for. */
const pageScript = `
  window.received = [];
  window.watchers = new Set();
  window.requests = 0;
  window.listenTo = (socket) => {
    window.socket = socket;
    socket.addEventListener("message", ({ data }) => {
      window.received.push(JSON.parse(data));
      for (const watcher of [...window.watchers]) watcher();
    });
  };
  // The first message that fits, taken out, now or later.
  window.next = (fits) => new Promise((resolve) => {
    const look = () => {
      const at = window.received.findIndex(fits);
      if (at < 0) return;
      window.watchers.delete(look);
      resolve(window.received.splice(at, 1)[0]);
    };
    window.watchers.add(look);
    look();
  });
  window.ofType = (type) => window.next((message) => message.type === type);
  window.ask = async (type, payload) => {
    const id = "p" + ++window.requests;
    window.socket.send(JSON.stringify({ id, type, payload }));
    const reply = await window.next((message) => message.reply_to === id);
    if (reply.type === "error") throw new Error(type + ": " + JSON.stringify(reply.payload));
    return reply;
  };
`;

/** The way in of an ordinary page. */
const usage = ({ port, userId }: { port: number; userId: string }) => `
  const ws = new WebSocket('ws://localhost:${port}/ws?user_id=${userId}');
  window.listenTo(ws);

  ws.onopen = () => {
    ws.send(JSON.stringify({
      id: crypto.randomUUID(),
      type: 'ping',
      payload: {},
      timestamp: new Date().toISOString(),
    }));

    ws.send(JSON.stringify({
      id: crypto.randomUUID(),
      type: 'subscribe',
      payload: {
        topics: ['conversation', 'presence', 'typing'],
        filters: { conversation_id: 'c1' },
      },
    }));
  };

  ws.onmessage = (event) => console.log(JSON.parse(event.data).type);
`;

const site = Bun.serve({
  hostname: "127.0.0.1",
  port: 0,
  fetch: () => new Response("<!doctype html><title>page</title>", { headers: { "Content-Type": "text/html" } }),
});
let browser: Browser;
let service: Service;

beforeAll(async () => {
  service = await startService();
  browser = await launchChromium();
}, 300_000);
afterAll(async () => {
  await browser?.close();
  await service?.stop();
  await site.stop(true);
});

/** Opens a page of a user of its own and goes in, until its requests are answered. */
async function openPage(): Promise<{ page: Page; userId: string; said: string[] }> {
  const userId = crypto.randomUUID();
  const context = await browser.newContext();
  const page = await context.newPage();
  const said: string[] = [];
  page.on("console", (message) => said.push(message.text()));
  await page.goto(`http://localhost:${site.port}/`);
  await page.evaluate(pageScript);
  await page.evaluate(usage({ port: service.port, userId }));
  await page.evaluate("window.ofType('pong')");
  // Its own topics first, then those that it asked for.
  await page.evaluate("window.next((message) => message.type === 'subscribed' && message.reply_to !== undefined)");
  return { page, userId, said };
}

/** Runs a script in the page and gives what it ends with. */
const run = (page: Page, script: string) => page.evaluate(`(async () => { ${script} })()`) as Promise<any>;

test("[CON5] [SUB1] a page connects, pings, subscribes, and hears what others say", async () => {
  const [anna, ben] = [await openPage(), await openPage()];
  expect(anna.said).toEqual(expect.arrayContaining(["connected", "pong", "subscribed"]));
  const connected = await run(anna.page, "return (await window.ofType('connected')).payload");
  expect(connected).toMatchObject({ user_id: anna.userId, authenticated: true, protocol_version: 1 });

  await run(anna.page, "await window.ask('typing.start', { conversation_id: 'c1' })");
  const typing = await run(ben.page, "return (await window.ofType('typing.start')).payload");
  expect(typing).toMatchObject({ user_id: anna.userId, conversation_id: "c1" });

  const ack = await run(
    anna.page,
    "return (await window.ask('message.send', { conversation_id: 'c1', client_message_id: 'm1', content: 'grüß dich 👋' })).payload",
  );
  const message = await run(ben.page, "return await window.ofType('message.new')");
  expect(message).toMatchObject({ id: ack.message_id, topic: "conversation:c1", seq: ack.seq });
  expect(message.payload).toMatchObject({ sender_id: anna.userId, content: "grüß dich 👋" });
  await run(ben.page, `await window.ask('mark.read', { conversation_id: 'c1', up_to_seq: ${ack.seq} })`);
  const read = await run(anna.page, "return (await window.ofType('message.read')).payload");
  expect(read).toMatchObject({ user_id: ben.userId, up_to_seq: ack.seq });
}, 60_000);

test("[MSG1] the README's example, pasted into two tabs as it stands there, ends with the message in the first", async () => {
  const readme = await Bun.file(join(projectFolder, "README.md")).text();
  const blocks = [...readme.matchAll(/<!-- (\w+) runs -->\n```js\n([\s\S]*?)```/g)];
  expect(blocks.map(([, who]) => who)).toEqual(["anna", "anna", "ben"]);
  const tabs: Record<string, Page> = {};
  for (const who of ["anna", "ben"]) {
    tabs[who] = await (await browser.newContext()).newPage();
    await tabs[who].goto(`http://localhost:${site.port}/`);
  }
  const shows = (who: string, part: string) => tabs[who]!.waitForEvent("console", (line) => line.text().includes(part));
  const outcomes = [shows("anna", '"type":"subscribed"'), shows("anna", '"reply_to":"2"'), shows("anna", "Hello!")];
  for (const [index, [, who, code]] of blocks.entries()) {
    await tabs[who!]!.addScriptTag({ content: code!.replaceAll("localhost:8086", `localhost:${service.port}`) });
    await outcomes[index];
  }
  const shown = JSON.parse((await outcomes[2]!).text());
  expect(shown).toMatchObject({ type: "message.new", topic: "conversation:c1", payload: { content: "Hello!" } });
}, 60_000);

test("[CON4] a page that compresses is answered compressed, in either format", async () => {
  const compressing = await startService({ settings: { WEBSOCKET__COMPRESSION: "shared" } });
  const page = await (await browser.newContext()).newPage();
  await page.goto(`http://localhost:${site.port}/`);
  const content = "grüß dich 👋 ".repeat(1_000);
  for (const format of ["json", "protobuf"] as const) {
    const isText = format === "json";
    const payload = { conversation_id: format, client_message_id: "m1", content };
    const request = { id: "1", type: "message.send", payload };
    const history = { id: "2", type: "history", payload: { topic: `conversation:${format}` } };
    const frames = [request, history].map((it) => (isText ? JSON.stringify(it) : [...protobufPeer.encode(it)]));
    const came = (await page.evaluate(
      ([url, protocol, requests]) =>
        new Promise((resolve, reject) => {
          const socket = new WebSocket(url as string, protocol as string);
          socket.binaryType = "arraybuffer";
          let answers = 0;
          socket.onopen = () => {
            for (const it of requests as (string | number[])[])
              socket.send(typeof it === "string" ? it : new Uint8Array(it));
          };
          socket.onmessage = ({ data }) => {
            const size = data.length ?? data.byteLength;
            // The page of history is the only one so large.
            if (size > 10_000)
              resolve({
                extensions: socket.extensions,
                data: typeof data === "string" ? data : [...new Uint8Array(data)],
              });
            else if (++answers > 10) reject(new Error("nothing large came"));
          };
          socket.onclose = ({ code }) => reject(new Error(`closed: ${code}`));
        }),
      [`ws://localhost:${compressing.port}/ws?user_id=${format}`, subprotocols[format], frames],
    )) as { extensions: string; data: string | number[] };
    expect(came.extensions).toContain("permessage-deflate");
    const message =
      typeof came.data === "string" ? JSON.parse(came.data) : protobufPeer.decode(new Uint8Array(came.data));
    expect(message.payload.events[0].payload.content).toBe(content);
  }
  await compressing.stop();
}, 60_000);

/** Both sides of a call: sends what ICE finds, and takes what the other's has found once its description is known. */
const peerScript = `
  window.makePeer = (callId) => {
    const peer = new RTCPeerConnection();
    window.peer = peer;
    window.connected = new Promise((resolve, reject) => {
      peer.addEventListener("connectionstatechange", () => {
        if (peer.connectionState === "connected") resolve(peer.connectionState);
        if (peer.connectionState === "failed") reject(new Error("the peers did not find each other"));
      });
    });
    peer.addEventListener("icecandidate", ({ candidate }) => {
      const candidates = candidate === null ? null : [candidate.toJSON()];
      window.ask("call.ice", { call_id: callId, candidates });
    });
    return peer;
  };
  window.takeCandidates = async () => {
    for (;;) {
      const { payload } = await window.ofType("call.ice");
      if (payload.candidates === null) return;
      for (const candidate of payload.candidates) await window.peer.addIceCandidate(candidate);
    }
  };
`;

test("[CALL1] [CALL2] [CALL3] [CALL4] two pages call each other: audio and data flow until one hangs up", async () => {
  const [anna, ben] = [await openPage(), await openPage()];
  for (const { page } of [anna, ben]) await page.evaluate(peerScript);
  const callId = crypto.randomUUID();

  await run(
    anna.page,
    `const peer = window.makePeer("${callId}");
     const media = await navigator.mediaDevices.getUserMedia({ audio: true });
     for (const track of media.getTracks()) peer.addTrack(track, media);
     window.channel = peer.createDataChannel("chat");
     window.heard = new Promise((resolve) => window.channel.addEventListener("message", ({ data }) => resolve(data)));
     const offer = await peer.createOffer();
     // Candidates come once the description is set, and the call must be known by then.
     await window.ask("call.offer", { call_id: "${callId}", to_user_id: "${ben.userId}", media: "audio", sdp: offer.sdp });
     await peer.setLocalDescription(offer);`,
  );
  const incoming = await run(
    ben.page,
    `const { payload } = await window.ofType("call.incoming");
     const peer = window.makePeer("${callId}");
     window.track = new Promise((resolve) => peer.addEventListener("track", ({ track }) => resolve(track.kind)));
     peer.addEventListener("datachannel", ({ channel }) => {
       channel.addEventListener("message", ({ data }) => channel.send("heard: " + data));
     });
     await peer.setRemoteDescription({ type: "offer", sdp: payload.sdp });
     const answer = await peer.createAnswer();
     await window.ask("call.answer", { call_id: "${callId}", sdp: answer.sdp });
     await peer.setLocalDescription(answer);
     window.takeCandidates();
     return payload;`,
  );
  expect(incoming).toMatchObject({ call_id: callId, from_user_id: anna.userId, media: "audio" });
  await run(
    anna.page,
    `const { payload } = await window.ofType("call.answer");
     await window.peer.setRemoteDescription({ type: "answer", sdp: payload.sdp });
     window.takeCandidates();`,
  );
  for (const { page } of [anna, ben]) expect(await run(page, "return await window.connected")).toBe("connected");
  expect(await run(ben.page, "return await window.track")).toBe("audio");
  const echoed = await run(
    anna.page,
    `if (window.channel.readyState !== "open")
       await new Promise((resolve) => window.channel.addEventListener("open", resolve));
     window.channel.send("hello");
     return await window.heard;`,
  );
  expect(echoed).toBe("heard: hello");

  await run(ben.page, `await window.ask("call.hangup", { call_id: "${callId}" }); window.peer.close();`);
  const ended = await run(anna.page, 'window.peer.close(); return (await window.ofType("call.ended")).payload');
  expect(ended).toMatchObject({ call_id: callId, reason: "hangup", ended_by: ben.userId });
  expect(ended.duration_ms).toBeNumber();
}, 60_000);
