/** Chooses where things are kept on a device, and whether the tabs of a browser share one connection. */

import { claim, isOf, readSession } from "./connection/kept-session.ts";
import { type GetToken, subjectOf, tokenServesMs, tokenWaitMs } from "./connection/tokens.ts";
import { Connection, type ConnectionOptions } from "./connection.ts";
import type { Core, Store } from "./core.ts";
import { pageSurroundings, systemClock } from "./ground/surroundings.ts";
import { DeferredStore } from "./stores/deferred.ts";
import { IndexedDbStore } from "./stores/indexed-db.ts";
import { MemoryStore } from "./stores/memory.ts";
import { TabCore } from "./tabs/tabs.ts";

export interface OpenCoreOptions extends Omit<ConnectionOptions, "store" | "onError"> {
  /** One of the application's own; with tabs that share, all of them have to have it. */
  store?: Store;
  /** False: each tab by itself. True where left out, and no `webSocket` is given. */
  tabs?: boolean;
  onError(error: unknown): void;
}

/**
 * In a browser with Web Locks: one connection for all tabs of a user, kept in IndexedDB. Where that is not there, or it is not known who
 * the user is: each tab by itself, as a device of its own, in memory. Elsewhere: in memory, or where the application says.
 * @throws TypeError where the URL is none, or there is no WebSocket
 */
export function openCore(options: OpenCoreOptions): { core: Core; store: Store } {
  const { tabs = options.webSocket === undefined, onError } = options;
  const canShare = typeof document !== "undefined" && "locks" in navigator && "BroadcastChannel" in globalThis;
  if (!tabs || !canShare) {
    const store = options.store ?? new MemoryStore();
    const core = new Connection({ ...options, store, whenReplaced: "another_device" });
    return { core, store: core.store };
  }
  const { url, userId, getToken } = options;
  // It is read later, where nobody could be told that it is none.
  new URL(url);
  const known = userId ?? subjectOf(options.token);
  const user = new TokenUser(options);
  const place = findPlace(options, known === null ? user.find() : Promise.resolve(known));
  const store = new DeferredStore(place.then((it) => it.store));
  let subject = known;
  void place.then((it) => (subject = it.userId));
  const core = new TabCore({
    userId: known,
    name: place.then((it) => it.name),
    store,
    clock: systemClock,
    surroundings: pageSurroundings,
    onError,
    connect: ({ isShared, deviceId, ...parts }) =>
      new Connection({
        ...options,
        ...parts,
        deviceIdBefore: deviceId,
        ...(subject !== null && { subject }),
        getToken: getToken && user.getToken,
        whenReplaced: isShared ? "stop" : "another_device",
      }),
  });
  core.onNews(({ kind }) => kind === "forgotten" && user.forget());
  return { core, store };
}

/** Where it cannot be kept, it is kept in memory, and nothing is shared: no other tab would have it. */
async function findPlace(
  { url, store, onError }: OpenCoreOptions,
  user: Promise<string | null>,
): Promise<{ name: string | null; userId: string | null; store: Store }> {
  const userId = await user;
  if (userId === null) return { name: null, userId, store: new MemoryStore() };
  const name = `ws-service ${url} ${userId}`;
  try {
    const kept = store ?? new IndexedDbStore(name);
    const { session } = await readSession(kept);
    // One of the application's own may be another user's.
    if (session !== undefined && !isOf(session, { url, userId })) await claim({ store: kept, url, userId, onError });
    return { name, userId, store: kept };
  } catch (error) {
    onError(error);
    return { name: null, userId, store: new MemoryStore() };
  }
}

/** Finds whose token it is; where none is to be had, without the network, say, whose it was the last time in this browser. */
class TokenUser {
  readonly #options: OpenCoreOptions;
  readonly #key: string;
  #token: { token: string; at: number } | null = null;

  constructor(options: OpenCoreOptions) {
    this.#options = options;
    this.#key = `ws-service ${options.url}`;
  }

  readonly getToken: GetToken = async (why) => {
    const first = this.#token;
    this.#token = null;
    if (why === "connect" && first !== null && Date.now() - first.at < tokenServesMs) return first.token;
    return this.#options.getToken!(why);
  };

  async find(): Promise<string | null> {
    const { getToken } = this.#options;
    if (getToken === undefined) return null;
    const late = new Promise<null>((resolve) => setTimeout(resolve, tokenWaitMs, null));
    const token = await Promise.race([Promise.resolve().then(() => getToken("connect")), late]).catch(() => null);
    if (token === null) return this.#remembered((storage) => storage.getItem(this.#key));
    this.#token = { token, at: Date.now() };
    const userId = subjectOf(token);
    if (userId !== null) this.#remembered((storage) => storage.setItem(this.#key, userId));
    return userId;
  }

  forget(): void {
    this.#remembered((storage) => storage.removeItem(this.#key));
  }

  /** Where a browser lets no site keep anything, asking for it fails. */
  #remembered<Result>(look: (storage: Storage) => Result): Result | null {
    try {
      return look(localStorage);
    } catch {
      return null;
    }
  }
}
