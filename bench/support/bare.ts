/** A bare `Bun.serve`: what the platform does alone. It publishes a given frame for each message it gets, or sends given frames back. */
import { answerMeasurements } from "./measured.ts";

const frame = "x".repeat(Number(process.env.FRAME_BYTES ?? 400));
/** Frames that each message is answered with instead, by their sizes. */
const answers = (JSON.parse(process.env.ANSWER_BYTES ?? "[]") as number[]).map((bytes) => "x".repeat(bytes));

const server = Bun.serve<{ topics: number }>({
  port: 0,
  hostname: "127.0.0.1",
  fetch(request, server) {
    const topics = Number(new URL(request.url).searchParams.get("topics") ?? 0);
    return server.upgrade(request, { data: { topics } }) ? undefined : new Response(null, { status: 426 });
  },
  websocket: {
    idleTimeout: 0,
    sendPings: false,
    perMessageDeflate: false,
    open(ws) {
      ws.subscribe("everybody");
      for (let topic = 0; topic < ws.data.topics; topic++) ws.subscribe(`conversation:c${topic}`);
      ws.send("ready");
    },
    message(ws) {
      if (answers.length > 0) {
        ws.cork(() => {
          for (const answer of answers) ws.send(answer);
        });
        return;
      }
      server.publish("everybody", frame, false);
      ws.send("ack");
    },
  },
});

answerMeasurements(server.port!);
