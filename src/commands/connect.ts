/** Talks to a service from the terminal and from scripts: lines in, messages out. */
import { randomUUID } from "node:crypto";
import type { ConnectionState } from "../client/core.ts";
import { CloseCode } from "../protocol/close.ts";
import { isPlainObject } from "../protocol/envelope.ts";
import { visible } from "../telemetry/visible.ts";
import type { Command, CommandIo } from "./command.ts";
import { inputHelp, parseInput } from "./connect-input.ts";
import { lineFor, paintFor } from "./connect-print.ts";
import { type Message, TypedRequests } from "./connect-session.ts";
import { openServerSession, type ServerSession } from "./server-session.ts";
import { serverOptions, serverUrlOf } from "./server-url.ts";

/** How long answers are waited for once the input has ended, or somebody wants to go. */
const lastAnswersMs = { ended: 30_000, quit: 2_000 } as const;
/** Attempts in a row that lead nowhere before it gives up. */
const attemptsMost = 20;
/** It takes another token, and there is nobody here who has one. */
const tokenCodes: readonly (number | undefined)[] = [CloseCode.authenticationTimeout, CloseCode.tokenExpired];

export const connect: Command = {
  name: "connect",
  summary: "talk to a server from the terminal or a script",
  usage: `connect [--url <url> | --config <file>] [--user <id>] [--token <jwt>] [--device <id>] [--json] [--listen]

Leaves when its input ends: with 1 where nobody was let in, or a line made no sense or was answered by an error or not at all, else with 0.
/help lists what may be typed.`,
  examples: [
    "connect --user anna",
    "connect --url wss://chat.example.com/ws --token eyJhbGciOi --device laptop --json --listen",
  ],
  options: {
    ...serverOptions,
    user: { value: "id", summary: "who to be, where the server trusts what it is told" },
    token: { value: "jwt", summary: "who to be, where it does not; or WS_SERVICE_TOKEN in the environment" },
    device: { value: "id", summary: "which device to be" },
    json: { summary: "print whole messages, one JSON object a line" },
    listen: { summary: "go on printing after the input has ended" },
  },
  async run(args, io) {
    const url = await serverUrlOf(args, io);
    const user = args.value("user");
    if (user !== undefined) url.searchParams.set("user_id", user);
    const paint = paintFor(io.stdout, io.env);
    const note = (text: string) => void io.stderr.write(`${paint("note", visible(text))}\n`);
    const print = (message: Message) =>
      void io.stdout.write(args.has("json") ? `${visible(JSON.stringify(message))}\n` : lineFor(message, paint));
    const terminal = new ConnectedTerminal({
      url,
      token: args.value("token") ?? (user === undefined ? io.env.WS_SERVICE_TOKEN : undefined) ?? null,
      device: args.value("device") ?? url.searchParams.get("device_id"),
      print,
      note,
    });
    io.signals.onTerminate(() => terminal.stop());

    let exitCode = 0;
    const reading = read(io, terminal, note).then(async (how) => {
      if (how === "ended" && args.has("listen")) return;
      await Promise.race([terminal.typed.settled(), Bun.sleep(lastAnswersMs[how])]);
      // A script goes by it; who types /quit has read what went wrong.
      if (how === "ended" && !terminal.typed.hasSucceeded) exitCode = 1;
      if (how === "ended" && terminal.isNobody) {
        note("the server has let nobody in: --token <jwt>");
        exitCode = 1;
      }
      terminal.stop();
    });
    // Raced, so that input which breaks ends it too; input that goes on does not keep it.
    const why = await Promise.race([terminal.ended, reading.then(() => terminal.ended)]);
    if (why === null) return exitCode;
    io.stderr.write(`The connection has ended: ${visible(why)}\n`);
    return 1;
  },
};

/** Joins a session to a terminal: what it prints, what was typed, and when it gives up. */
class ConnectedTerminal {
  readonly typed: TypedRequests;
  /** Resolves when there will be no further connection: with the reason, or null where it was told to leave. */
  readonly ended: Promise<string | null>;
  readonly #server: ServerSession;
  readonly #note: (text: string) => void;
  readonly #end: (why: string | null) => void;
  #live = Promise.withResolvers<true>();
  #isLive = false;
  #token: string | null;
  #hasConnected = false;
  #attempts = 0;
  #isLeaving = false;
  #isNobody = false;

  constructor(options: {
    url: URL;
    token: string | null;
    device: string | null;
    print: (message: Message) => void;
    note: (text: string) => void;
  }) {
    const { url, token, device, print, note } = options;
    const { promise, resolve } = Promise.withResolvers<string | null>();
    this.ended = promise;
    this.#end = resolve;
    this.#note = note;
    this.#token = token;
    this.#server = openServerSession({
      url,
      token: () => this.#token,
      ownTopics: ["user", "calls", "notifications"],
      mayBeNobody: true,
      onState: (state) => this.#noteState(state),
      onNews() {},
      onTaken: (message) => {
        if (message.type === "connected") this.#hasConnected = true;
        if (message.type === "connected") this.#isNobody = message.payload.authenticated === false;
        if (message.type === "auth.success") this.#isNobody = false;
        if (message.type === "error" && message.reply_to === undefined) this.typed.noteFault();
        print({ ...message });
      },
    });
    const { session } = this.#server;
    this.typed = new TypedRequests({
      session,
      newId: randomUUID,
      onLost: ({ id, type }, { code }) =>
        note(
          code === "too_large"
            ? `${id} (${type}) is larger than the server takes.`
            : `No answer to ${id} (${type}): it may have happened or not.`,
        ),
    });
    session.deviceId = device;
    session.start();
  }

  /** Whether the server does not know who this is. */
  get isNobody(): boolean {
    return this.#isNobody;
  }

  /** Resolves once messages can be sent, subscriptions back included; false when that will never be. */
  live(): Promise<boolean> {
    return Promise.race([this.#live.promise, this.ended.then(() => false)]);
  }

  send(message: Message): void {
    const { type, payload } = message;
    if (type === "authenticate" && isPlainObject(payload) && typeof payload.token === "string")
      this.#token = payload.token;
    this.typed.send(message);
  }

  /** Leaves for good: a close with 1000 tells others at once that the user is gone [PRE1]. A second call does not wait. */
  stop(): void {
    if (this.#isLeaving) return this.#end(null);
    this.#isLeaving = true;
    // Leaving before the close frame is out would look like a lost connection.
    void this.#server.session.stop().then(() => this.#end(null));
  }

  #noteState(state: ConnectionState): void {
    if (state.status === "live") {
      this.#attempts = 0;
      this.#isLive = true;
      return this.#live.resolve(true);
    }
    if (this.#isLive) this.#live = Promise.withResolvers<true>();
    this.#isLive = false;
    if (this.#isLeaving || state.status === "connecting") return;
    const { lastEnd, refusal } = this.#server;
    if (state.status === "stopped") return this.#end(lastEnd);
    const isTurnedAway = refusal !== null && refusal >= 400 && refusal < 500 && refusal !== 429;
    if (!this.#hasConnected || isTurnedAway || tokenCodes.includes(state.code) || this.#attempts++ >= attemptsMost) {
      this.#isLeaving = true;
      void this.#server.session.stop();
      return void this.#server.explain().then(this.#end);
    }
    this.#note(`Connection closed (${lastEnd}); back in ${((state.retryAt - Date.now()) / 1000).toFixed(1)} s.`);
  }
}

/** Sends what is typed until the input ends or somebody has had enough. */
async function read(
  io: CommandIo,
  terminal: ConnectedTerminal,
  note: (text: string) => void,
): Promise<"ended" | "quit"> {
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
        terminal.typed.noteFault();
        break;
      default: {
        // Not read on while there is nobody to send to: the terminal or the pipe is the queue.
        if (!(await terminal.live())) return "quit";
        terminal.send(input.kind === "message" ? input.message : { type: input.type, payload: input.payload });
      }
    }
  }
  await terminal.live();
  return "ended";
}
