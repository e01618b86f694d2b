/** Makes clients for tests, waits on what they show, and ends them. */
import { Client, type ClientOptions } from "../../src/client/client.ts";
import type { Live } from "../../src/client/live.ts";
import { MemoryStore } from "../../src/client/stores/memory.ts";

const patienceMs = 20_000;
const running = new Set<{ stop(): void }>();

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
