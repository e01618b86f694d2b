/** Listens to the public: the four paths, the sockets' events, TLS and its rotation. */
import type { Server as BunServer, ServerWebSocket, TLSOptions, WebSocketHandler } from "bun";
import type { WaitingFrames } from "../broadcast/ports.ts";
import { ConfigError } from "../config/faults.ts";
import type { Config } from "../config/schema.ts";
import { type AtOnce, atOnce, type Steps } from "../ground/at-once.ts";
import type { HealthHandler } from "../health/handler.ts";
import { CloseCode, closeCodeOf } from "../protocol/close.ts";
import type { Router } from "../router/router.ts";
import type { Counts } from "../telemetry/counts.ts";
import type { Logger } from "../telemetry/logger.ts";
import { clientAddress, createTrustedProxies, isOfThisMachine } from "./addresses.ts";
import type { CleanUp } from "./clean-up.ts";
import type { Compression } from "./compression.ts";
import type { Attachment, Connection } from "./connection.ts";
import { Descriptors } from "./descriptors.ts";
import type { FirstWords } from "./first-words.ts";
import type { Hub } from "./hub.ts";
import type { Listeners } from "./listeners.ts";
import { listenAt } from "./listening.ts";
import { notFound } from "./not-found.ts";
import { RefusedConnections } from "./refused.ts";
import type { Sessions } from "./sessions.ts";
import { Refusal, type Upgrades, urlOf } from "./upgrade.ts";
import type { Watches } from "./watches.ts";

export interface ServerOptions {
  config: Config;
  router: Router;
  upgrades: Upgrades;
  sessions: Pick<Sessions, "open" | "fail">;
  cleanUp: Pick<CleanUp, "close">;
  health: HealthHandler;
  hub: Pick<Hub, "size">;
  listeners: Listeners;
  coalescer: WaitingFrames;
  firstWords: FirstWords;
  compression: Compression;
  counts: Counts;
  watches: Watches;
  logger: Logger;
  now: () => number;
  /** Whether other processes listen on the same port, so that the system spreads connections over all of them. */
  sharesPort: boolean;
}

/** Bytes of one waiting message that `client_buffer_size` counts: the limit of an ordinary message. */
const waitingMessageBytes = 64 * 1024;

/** Bytes that may wait for one client before it counts as slow [CON7]; always room for the largest event. */
export function bufferBytesMax({ client_buffer_size, max_message_size }: Config["websocket"]): number {
  return Math.max(client_buffer_size * waitingMessageBytes, 2 * max_message_size);
}

/** How long a connection may be silent that is no socket yet, or was only asked how it is: an identity is still checked meanwhile. */
export const idleSeconds = ({ upgrade_timeout }: Pick<Config["websocket"], "upgrade_timeout">) =>
  Math.min(255, Math.max(10, Math.ceil(upgrade_timeout / 1_000) + 5));

const settings = { host: "server.host", port: "server.port" };

/**
 * Refuses a port that somebody listens on: processes that share theirs would join a stranger's without a word.
 * @throws StartError
 */
export async function refuseTakenPort({ host, port }: Pick<Config["server"], "host" | "port">): Promise<void> {
  const fetch = () => new Response(null, { status: 503 });
  const listener = listenAt({ host, port, settings }, () =>
    Bun.serve({ hostname: host, port, reusePort: false, fetch }),
  );
  await listener.stop(true);
}

export class Server {
  readonly handlers: WebSocketHandler<Connection>;
  readonly #isTrusted: (address: string) => boolean;
  readonly #refused: RefusedConnections;
  readonly #descriptors: Descriptors;

  constructor(private readonly options: ServerOptions) {
    this.#isTrusted = createTrustedProxies(options.config.server.trusted_proxies);
    this.handlers = this.#socketHandlers();
    this.#refused = new RefusedConnections(options);
    this.#descriptors = new Descriptors({ ...options, connections: () => options.hub.size });
  }

  /** Listens. @throws StartError where the port is taken, ConfigError where the certificate cannot be used */
  async start(): Promise<void> {
    const { config, sharesPort } = this.options;
    const certificate = await this.#readCertificate();
    // With a certificate the port may be listened on twice, by us when it changes, but not by two services.
    if (certificate !== undefined && !sharesPort) await refuseTakenPort(config.server);
    const { host, port } = config.server;
    this.options.listeners.add(listenAt({ host, port, settings }, () => this.#listen(port, certificate)));
    this.#refused.start();
    this.#descriptors.start();
  }

  get port(): number {
    return this.options.listeners.port;
  }

  /** Reads the certificate again for new connections; sockets that are open stay as they are. */
  async rotateCertificate(): Promise<void> {
    const certificate = await this.#readCertificate();
    if (certificate === undefined) return;
    // `reload` keeps the old certificate: a second listener takes over the port, the first only keeps its sockets.
    this.options.listeners.add(this.#listen(this.port, certificate));
  }

  /** Ends every socket. */
  async stop(): Promise<void> {
    this.#refused.stop();
    this.#descriptors.stop();
    await this.options.listeners.stop();
  }

  #listen(port: number, tls: TLSOptions | undefined): BunServer<Connection> {
    return Bun.serve<Connection>({
      port,
      hostname: this.options.config.server.host,
      // With a certificate a second listener must be able to take over the port.
      reusePort: tls !== undefined || this.options.sharesPort,
      ...(tls === undefined ? {} : { tls }),
      development: false,
      idleTimeout: idleSeconds(this.options.config.websocket),
      maxRequestBodySize: 64 * 1024,
      fetch: (request, server) => this.#answer(request, server),
      error: (error) => {
        this.options.logger.error({ err: error }, "request failed");
        return Response.json({ code: "internal", message: "Something went wrong here." }, { status: 500 });
      },
      websocket: this.handlers,
    });
  }

  async #readCertificate(): Promise<TLSOptions | undefined> {
    const { tls } = this.options.config.server;
    if (tls === null) return undefined;
    // With it comes the platform's module of keys and streams.
    const { readCertificate } = await import("../config/certificate.ts");
    const { cert, key, faults } = await readCertificate(tls, { cwd: "." });
    if (faults.length === 0) return { cert, key };
    const origin = "found while reading the certificate";
    throw new ConfigError(
      faults.map(({ file, expected }) => ({
        path: `server.tls.${file}`,
        value: JSON.stringify(tls[file]),
        expected,
        origin,
      })),
    );
  }

  #answer(request: Request, server: BunServer<Connection>): AtOnce<Response | undefined> {
    const url = urlOf(request);
    // Refused here: as a failure it would be logged, with what was asked.
    if (url === null) return new Refusal(400, "bad_request", "The Host header is not one.").toResponse();
    return url.pathname === "/ws" ? this.answerSocket(request, server, { url }) : this.#answerPlain(request, url);
  }

  async #answerPlain(request: Request, url: URL): Promise<Response> {
    return (await this.options.health.handle({ method: request.method, url: url.href })) ?? notFound(request);
  }

  /**
   * Lets a socket in, on this or another listener of the process that has these handlers: in this turn where it can, so that
   * its first messages leave in one piece with the answer. @returns undefined where it is in
   */
  answerSocket(
    request: Request,
    server: BunServer<Connection>,
    from: { isInternal?: boolean; url?: URL } = {},
  ): AtOnce<Response | undefined> {
    return atOnce(this.#answerSocket(request, server, from));
  }

  *#answerSocket(
    request: Request,
    server: BunServer<Connection>,
    { isInternal = false, url }: { isInternal?: boolean; url?: URL },
  ): Steps<Response | undefined> {
    try {
      const address = this.addressOf(request, server);
      const { upgrades, compression, now } = this.options;
      const source = { address, isInternal, url, isOfThisMachine: () => this.isOfThisMachine(request, server) };
      const admitting = upgrades.admit(request, source);
      const { connection, subprotocol } = admitting instanceof Promise ? yield admitting : admitting;
      // Where nobody agrees on it the platform looks at no offer, and to touch the headers costs a copy of all of them.
      if (compression.perMessageDeflate !== false && !compression.allows(connection, now()))
        request.headers.delete("sec-websocket-extensions");
      const answer = subprotocol === null ? {} : { headers: { "Sec-WebSocket-Protocol": subprotocol } };
      if (server.upgrade(request, { data: connection, ...answer })) return undefined;
      upgrades.abandon(connection);
      return new Refusal(426, "upgrade_required", "This request cannot be upgraded.").toResponse();
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      this.#refused.note(error);
      return error.toResponse();
    }
  }

  /** The client's, as far as proxies that are trusted name it. */
  addressOf(request: Request, server: BunServer<Connection>): string {
    return clientAddress(server.requestIP(request)?.address ?? "", {
      forwardedFor: request.headers.get("x-forwarded-for"),
      isTrusted: this.#isTrusted,
    });
  }

  /** Whether it comes from this machine, and is not passed on for another. */
  isOfThisMachine(request: Request, server: BunServer<Connection>): boolean {
    return isOfThisMachine(server.requestIP(request)?.address ?? "", request.headers);
  }

  #socketHandlers(): WebSocketHandler<Connection> {
    const { config, router, sessions, cleanUp, compression, counts, watches, now } = this.options;
    const attachment: Attachment = {
      onGone: (connection, code) => {
        watches.noteGone(connection, code);
        cleanUp.close(connection, code);
      },
      onSent: (connection, message, frame) => {
        counts.messagesOut++;
        counts.bytesOut += Buffer.byteLength(frame);
        if (watches.isWatching) watches.noteSent(connection, message, frame);
      },
      waiting: this.options.coalescer,
      firstWords: this.options.firstWords,
      lastWordWaitMs: config.websocket.write_wait,
      queueBytesLast: config.websocket.max_message_size,
      compresses: (frame) => compression.pays(frame, () => 1),
    };
    const handlerOf = (connection: Connection) => (frame: string | Buffer) => router.route(connection, frame);
    /** Ends the connection for what its handler throws: at the platform that would end the process. */
    const apart = (connection: Connection, work: () => void) => {
      try {
        work();
      } catch (error) {
        sessions.fail(connection, error);
      }
    };
    const heard = (ws: ServerWebSocket<Connection>) => {
      ws.data.lastHeardAt = now();
    };
    return {
      maxPayloadLength: config.websocket.max_message_size,
      backpressureLimit: bufferBytesMax(config.websocket),
      closeOnBackpressureLimit: true,
      // Liveness is ours: the platform's timer takes what we send for a sign of life.
      idleTimeout: 0,
      sendPings: false,
      perMessageDeflate: compression.perMessageDeflate,
      open: (ws) => {
        const connection = ws.data;
        connection.attach(ws, attachment);
        apart(connection, () => {
          const opened = sessions.open(connection);
          if (opened instanceof Promise) connection.occupy(opened, handlerOf(connection));
        });
      },
      message: (ws, frame) => {
        heard(ws);
        const connection = ws.data;
        if (connection.isClosed) return;
        if (compression.noteReceived(connection, frame.length, connection.lastHeardAt))
          return connection.close(CloseCode.rateLimited, "rate limit");
        if (watches.isWatching) watches.noteReceived(connection, frame);
        apart(connection, () => connection.receive(frame, handlerOf(connection)));
      },
      ping: heard,
      pong: heard,
      drain(ws) {
        // The log stands before our pings: that it is taken is as good as an answer to them.
        if (ws.data.isFed) heard(ws);
        apart(ws.data, () => ws.data.noteDrain());
      },
      close(ws, platformCode, reason) {
        const code = closeCodeOf(platformCode, reason);
        // It was inflated as far as it may be.
        if (code === CloseCode.tooLarge) compression.noteReceived(ws.data, config.websocket.max_message_size, now());
        apart(ws.data, () => ws.data.noteGone(code));
      },
    };
  }
}
