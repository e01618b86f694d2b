/** Says whose that is which is kept on a device, and leaves nothing there of another user's. */
import type { Store } from "../core.ts";
import type { KeptPlace } from "./place.ts";
import { subjectOf } from "./tokens.ts";

export interface KeptSession extends KeptPlace {
  url: string;
  userId: string;
  /** Null: it was never connected. */
  deviceId: string | null;
}

export interface Owner {
  url: string;
  /** Null: nobody has said it yet. */
  userId: string | null;
}

export const keys = { session: "session", covered: "session/covered" };
export const nowhere: KeptPlace = { cursor: null, seen: {}, own: {} };

export async function readSession(store: Store): Promise<{ session: KeptSession | undefined; covered: string[] }> {
  const kept = new Map(await store.read(keys.session));
  const session = kept.get(keys.session) as KeptSession | undefined;
  return { session, covered: (kept.get(keys.covered) as string[] | undefined) ?? [] };
}

export const isOf = (session: KeptSession, { url, userId }: Owner): boolean =>
  session.url === url && session.userId === userId;

export interface ClaimOptions extends Owner {
  store: Store;
  onError(error: unknown): void;
}

export interface TakeOverOptions extends ClaimOptions {
  /** One of this user's; null: there is none to be had. */
  token(): Promise<string | null>;
  /** Null: it will not be known. */
  askServer(): Promise<string | null>;
}

/**
 * Finds what is kept of this user, and leaves nothing of another. Where nothing says who this is, without a network, say, it is the
 * last one.
 * @throws where what is there cannot be read or removed
 */
export async function takeOver(options: TakeOverOptions) {
  const { store, url, onError } = options;
  let { userId } = options;
  const { session, covered } = await readSession(store);
  if (session?.url === url) {
    const token = userId === null ? await options.token() : null;
    if (token !== null) userId = subjectOf(token) ?? (await options.askServer());
    else userId ??= session.userId;
    if (userId === session.userId) return { userId, session, covered };
  }
  await claim({ store, url, userId, onError });
  return { userId, session: null, covered };
}

/**
 * Takes it for this user before anything is in it that is theirs, so that the next one knows whose it is.
 * @throws where what is there cannot be read or removed
 */
export async function claim({ store, url, userId, onError }: ClaimOptions): Promise<void> {
  // Also what was written by somebody of whom nobody has said who it was.
  if ((await store.read("")).length > 0) await store.clear();
  if (userId === null) return;
  const session: KeptSession = { url, userId, deviceId: null, ...nowhere };
  await store.write([[keys.session, session]]).catch(onError);
}
