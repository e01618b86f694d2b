/** Talks to a service from the terminal and from scripts: lines in, messages out. */
import { randomUUID } from "node:crypto";
import { visible } from "../telemetry/visible.ts";
import type { Command, CommandIo } from "./command.ts";
import { inputHelp, parseInput } from "./connect-input.ts";
import { ConnectLink } from "./connect-link.ts";
import { lineFor, paintFor } from "./connect-print.ts";
import { ConnectSession, type Message } from "./connect-session.ts";
import { askWhyRefused } from "./refusal.ts";
import { serverOptions, serverUrlOf } from "./server-url.ts";

/** How long answers are waited for once the input has ended, or somebody wants to go. */
const lastAnswersMs = { ended: 30_000, quit: 2_000 } as const;

export const connect: Command = {
  name: "connect",
  summary: "talk to a server from the terminal or a script",
  usage: `connect [--url <url> | --config <file>] [--user <id>] [--token <jwt>] [--device <id>] [--json] [--listen]

Leaves when its input ends: with 1 where a line made no sense or was answered by an error or not at all, else with 0.`,
  options: {
    ...serverOptions,
    user: { value: "id", summary: "who to be, where the server trusts what it is told" },
    token: { value: "jwt", summary: "who to be, where it does not" },
    device: { value: "id", summary: "which device to be" },
    json: { summary: "print whole messages, one JSON object a line" },
    listen: { summary: "go on printing after the input has ended" },
  },
  async run(args, io) {
    const url = await serverUrlOf(args, io);
    const user = args.value("user");
    if (user !== undefined) url.searchParams.set("user_id", user);
    const session = new ConnectSession({
      newId: randomUUID,
      deviceId: args.value("device") ?? url.searchParams.get("device_id"),
      token: args.value("token") ?? null,
    });
    const paint = paintFor(io.stdout, io.env);
    const note = (text: string) => void io.stderr.write(`${paint("note", visible(text))}\n`);
    const print = (message: Message) =>
      void io.stdout.write(args.has("json") ? `${visible(JSON.stringify(message))}\n` : lineFor(message, paint));
    const link = new ConnectLink({
      url,
      session,
      random: Math.random,
      schedule,
      askWhyRefused,
      onMessage: print,
      onNote: note,
    });
    io.signals.onTerminate(() => link.stop());

    let exitCode = 0;
    const reading = read({ io, link, session, note }).then(async (how) => {
      if (how === "ended" && args.has("listen")) return;
      await Promise.race([session.settled(), Bun.sleep(lastAnswersMs[how])]);
      // A script goes by it; who types /quit has read what went wrong.
      if (how === "ended" && !session.hasSucceeded) exitCode = 1;
      link.stop();
    });
    // Raced, so that input which breaks ends it too; input that goes on does not keep it.
    const end = await Promise.race([link.ended, reading.then(() => link.ended)]);
    if (end.wanted) return exitCode;
    io.stderr.write(`The connection has ended: ${visible(end.why)}\n`);
    return 1;
  },
};

/** Sends what is typed until the input ends or somebody has had enough. */
async function read(parts: {
  io: CommandIo;
  link: ConnectLink;
  session: ConnectSession;
  note: (text: string) => void;
}): Promise<"ended" | "quit"> {
  const { io, link, session, note } = parts;
  for await (const line of io.stdin()) {
    const input = parseInput(line);
    switch (input.kind) {
      case "nothing":
        break;
      case "quit":
        return "quit";
      case "help":
        io.stderr.write(inputHelp());
        break;
      case "fault":
        note(input.message);
        session.noteFault();
        break;
      default: {
        // Not read on while there is nobody to send to: the terminal or the pipe is the queue.
        if (!(await link.live())) return "quit";
        const message = input.kind === "message" ? input.message : { type: input.type, payload: input.payload };
        link.send(session.request(message));
      }
    }
  }
  await link.live();
  return "ended";
}

function schedule(delayMs: number, callback: () => void): () => void {
  const timer = setTimeout(callback, delayMs);
  return () => clearTimeout(timer);
}
