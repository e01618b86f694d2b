/** The key set behind a JWKS URL: fetched with a deadline, cached, refetched when keys rotate, and kept while its server is away. */
import { createLocalJWKSet, errors, type JWSHeaderParameters, type LocalJWKSet } from "jose";
import { Unavailable } from "../ground/unavailable.ts";

/** How keys are fetched; the service's own `fetch` has this shape. */
export type FetchKeys = (url: string, init: RequestInit) => Promise<Response>;

export interface RemoteKeysOptions {
  url: string;
  now: () => number;
  fetch: FetchKeys;
  /** Told of each fetch that failed, for the log. */
  onFault: (message: string) => void;
  timing?: Partial<typeof remoteKeysTiming>;
}

export interface RemoteKeys {
  /**
   * The keys that a token with this header may be signed with; an empty list where the set has none.
   * @throws Unavailable where that cannot be known now
   */
  candidates(header: JWSHeaderParameters): Promise<CryptoKey[]>;
  /** Fetches now, whatever the cache says. Rejects where that fails; the keys that were there stay. */
  refresh(): Promise<void>;
  stop(): void;
}

export const remoteKeysTiming = {
  /** Below the upgrade's own deadline, so that an outage is a 503 and not a timeout. */
  fetchDeadlineMs: 3_000,
  /** From this age on a set is refreshed in the background, before anybody has to wait for it. */
  refreshAfterMs: 5 * 60_000,
  /** From this age on a token waits for a refresh, so that a withdrawn key ends even on an idle server. */
  staleAfterMs: 10 * 60_000,
  /** A key that the set has not is looked for again at most so often: made-up key ids must not become a flood of fetches. */
  cooldownMs: 10_000,
  /** While there is no way to reach the key server, it is asked again at most so often. */
  retryAfterMs: 2_000,
};

const bodyBytesMax = 1 << 20;
const keysMax = 100;

export function createRemoteKeys({ url, now, fetch, onFault, timing }: RemoteKeysOptions): RemoteKeys {
  const { fetchDeadlineMs, refreshAfterMs, staleAfterMs, cooldownMs, retryAfterMs } = {
    ...remoteKeysTiming,
    ...timing,
  };
  const stopping = new AbortController();
  let keys: LocalJWKSet | null = null;
  let fetchedAt = Number.NEGATIVE_INFINITY;
  let attemptedAt = Number.NEGATIVE_INFINITY;
  let attemptFailed = false;
  let pending: Promise<void> | null = null;

  async function fetchOnce(): Promise<void> {
    attemptedAt = now();
    try {
      const signal = AbortSignal.any([stopping.signal, AbortSignal.timeout(fetchDeadlineMs)]);
      const response = await fetch(url, {
        headers: { accept: "application/jwk-set+json, application/json" },
        // A server that can redirect the request could choose the keys.
        redirect: "error",
        signal,
      });
      const set = JSON.parse(await readBounded(response));
      if (Array.isArray(set?.keys) && set.keys.length > keysMax) throw new Error(`more than ${keysMax} keys`);
      keys = createLocalJWKSet(set);
      fetchedAt = now();
      attemptFailed = false;
    } catch (error) {
      attemptFailed = true;
      if (!stopping.signal.aborted) onFault(`The keys of auth.jwks_url could not be fetched: ${reasonOf(error)}.`);
      throw error;
    }
  }

  /** One fetch at a time, whoever asks. */
  function refresh(): Promise<void> {
    pending ??= fetchOnce().finally(() => {
      pending = null;
    });
    return pending;
  }

  /** Since then, ms; endless where the clock was set back, or nothing would be due until it has caught up. */
  function ageOf(at: number): number {
    const ageMs = now() - at;
    return ageMs < 0 ? Number.POSITIVE_INFINITY : ageMs;
  }

  /** Fetches where that is due; never rejects, for what is cached may do. */
  async function refreshIfDue(dueAfterMs: number): Promise<void> {
    if (pending === null && ageOf(attemptedAt) < (attemptFailed ? retryAfterMs : dueAfterMs)) return;
    await refresh().catch(() => {});
  }

  async function bringUpToDate(): Promise<void> {
    const ageMs = ageOf(fetchedAt);
    if (ageMs < refreshAfterMs) return;
    const refreshed = refreshIfDue(0);
    // No request waits where cached keys will do, nor again for a server that is known to be away.
    if (keys === null || (ageMs >= staleAfterMs && !attemptFailed)) await refreshed;
  }

  return {
    refresh,

    async candidates(header) {
      await bringUpToDate();
      let found = keys === null ? [] : await keysFor(keys, header);
      if (found.length > 0) return found;
      if (keys !== null) {
        await refreshIfDue(cooldownMs);
        found = await keysFor(keys, header);
        if (found.length > 0) return found;
      }
      // A key server that is away may hold the key: a client that gave up for good would be wrong to.
      if (keys === null || attemptFailed) {
        throw new Unavailable("auth", "The keys that tokens are checked with are not available.");
      }
      return [];
    },

    stop: () => stopping.abort(),
  };
}

async function keysFor(set: LocalJWKSet, header: JWSHeaderParameters): Promise<CryptoKey[]> {
  try {
    return [await set(header)];
  } catch (error) {
    if (!(error instanceof errors.JWKSMultipleMatchingKeys)) return [];
    return await Array.fromAsync(error);
  }
}

async function readBounded(response: Response): Promise<string> {
  if (response.status !== 200) {
    await response.body?.cancel();
    throw new Error(`status ${response.status}`);
  }
  const decoder = new TextDecoder();
  let text = "";
  let bytes = 0;
  for await (const chunk of response.body ?? []) {
    bytes += chunk.byteLength;
    if (bytes > bodyBytesMax) throw new Error(`more than ${bodyBytesMax} bytes`);
    text += decoder.decode(chunk, { stream: true });
  }
  return text + decoder.decode();
}

/** Short, and without what the server sent. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return "unknown reason";
  if (error instanceof SyntaxError) return "not JSON";
  if (error instanceof DOMException && error.code === DOMException.TIMEOUT_ERR) return "no answer in time";
  return error.message.slice(0, 200).replace(/\.$/, "");
}
