/** Makes clients for tests, waits on what they show, and ends them. */
import { Client, type ClientOptions } from "../../src/client/client.ts";
import type { ConversationView } from "../../src/client/conversations/conversation.ts";
import type { Live } from "../../src/client/ground/live.ts";
import { MemoryStore } from "../../src/client/stores/memory.ts";

const patienceMs = 20_000;
const running = new Set<{ stop(): void | Promise<void> }>();

/** A client that has started, with a store of its own unless one is given. @returns also what it has complained of */
export function chatter<Events extends object = Record<never, never>>(options: ClientOptions) {
  const client = new Client<Events>({ store: new MemoryStore(), ...options });
  const errors: unknown[] = [];
  client.on("error", (error) => errors.push(error));
  client.start();
  running.add(client);
  return { client, errors };
}

/** Looks at a value until it is as it should be, and goes on looking if asked to. */
export function shows<T>(live: Live<T>, isSo: (value: T) => boolean): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      stop();
      reject(new Error(`waited in vain for ${isSo}; shown: ${JSON.stringify(live.current, null, 1)}`));
    }, patienceMs);
    const look = () => {
      if (!isSo(live.current)) return;
      clearTimeout(timer);
      stop();
      resolve(live.current);
    };
    const unsubscribe = live.subscribe(look);
    const stop = () => unsubscribe();
    look();
  });
}

/** Holds a value open, as a page does that shows it. */
export function opened<L extends Live<unknown>>(live: L): L {
  const stop = live.subscribe(() => {});
  running.add({ stop });
  return live;
}

/** Waits until a client is live. */
export function live(client: Client): Promise<void> {
  return new Promise((resolve) => {
    const look = () => {
      if (client.state.status !== "live") return;
      unlisten();
      resolve();
    };
    const unlisten = client.on("state", look);
    look();
  });
}

/** Ends all that were made. */
export async function stopChatters(): Promise<void> {
  await Promise.all([...running].map((it) => it.stop()));
  running.clear();
}

/** A network that can be switched off: what is open breaks, and nothing opens. */
export function network() {
  const open = new Set<WebSocket>();
  let isOn = true;
  class Switched extends WebSocket {
    constructor(url: string, protocols: string[]) {
      // There is no server at port 1.
      super(isOn ? url : "ws://127.0.0.1:1", protocols);
      open.add(this);
      this.addEventListener("close", () => open.delete(this));
    }
  }
  return {
    webSocket: Switched,
    on() {
      isOn = true;
    },
    off() {
      isOn = false;
      for (const socket of open) socket.terminate();
    },
  };
}

/** A store that remembers how it stood after each write, as a device that loses its power just then. */
export class RememberingStore extends MemoryStore {
  readonly moments: [key: string, value: unknown][][] = [];

  override async write(changes: readonly [key: string, value: unknown][]): Promise<void> {
    await super.write(changes);
    this.moments.push(await this.read(""));
  }
}

/** The texts that a conversation shows, the oldest first. */
export const textsOf = ({ messages }: ConversationView) => messages.map(({ content }) => content);
