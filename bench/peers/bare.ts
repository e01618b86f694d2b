/** The bare platform: `Bun.serve`, a token checked, native topics, and nothing else. */
import { userOf } from "./token.ts";

type Request = { t: "pub"; id: number; room: string; c: string } | { t: "sub"; rooms: string[]; missed: number };

/** As long as what others have kept for a client, and marked as theirs is. */
const content = "#S00000000D000000000000S000000000000".padEnd(200, "lorem ipsum ");
const missed = JSON.stringify({ t: "msg", room: "r0", from: "publisher-0", c: content });

Bun.serve<{ user: string }>({
  port: Number(process.env.PORT),
  hostname: "127.0.0.1",
  fetch(request, server) {
    const url = new URL(request.url);
    if (url.pathname === "/live") return new Response("ok");
    const user = userOf(url.searchParams.get("token"));
    if (user === null) return new Response(null, { status: 401 });
    return server.upgrade(request, { data: { user } }) ? undefined : new Response(null, { status: 426 });
  },
  websocket: {
    perMessageDeflate: false,
    idleTimeout: 120,
    message(ws, text) {
      const request = JSON.parse(text as string) as Request;
      if (request.t === "pub") {
        const { room, c } = request;
        ws.publish(room, JSON.stringify({ t: "msg", room, from: ws.data.user, c }), false);
        ws.send(`{"t":"ack","id":${request.id}}`);
      } else {
        for (const room of request.rooms) ws.subscribe(room);
        ws.cork(() => {
          for (let event = 0; event < request.missed; event++) ws.send(missed);
          ws.send('{"t":"subok"}');
        });
      }
    },
  },
});
