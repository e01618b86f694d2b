/** Says the close frame of a socket that we close once its client has read what stands before it, or has had time to. */
import type { ServerWebSocket } from "bun";

type Socket = Pick<ServerWebSocket<unknown>, "pause" | "resume" | "close" | "subscriptions" | "unsubscribe">;

interface LastWordOptions {
  code: number;
  reason: string;
  /** How long it waits at most, ms. */
  waitMs: number | undefined;
}

/**
 * The platform cuts a closed socket off after some seconds, and with it a close frame that stands behind what the client
 * has not read. So the frame waits; of everything else nothing more comes or goes.
 */
export class LastWord {
  /** Null: it is said, or nobody is there to hear it. */
  #timer: Timer | null;

  constructor(
    private readonly socket: Socket,
    private readonly options: LastWordOptions,
  ) {
    this.#timer = setTimeout(() => this.say(), options.waitMs);
    // Nothing that still comes is handled: it is not even read, nor inflated.
    socket.pause();
    for (const topic of socket.subscriptions ?? []) socket.unsubscribe(topic);
  }

  /** @returns whether it was still to be said */
  say(): boolean {
    if (this.#timer === null) return false;
    this.drop();
    this.socket.resume();
    this.socket.close(this.options.code, this.options.reason);
    return true;
  }

  /** The socket is gone. */
  drop(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
  }
}
