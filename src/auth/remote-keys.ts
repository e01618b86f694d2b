/** Keeps the key set behind a JWKS URL: fetched with a deadline, cached, refetched when keys rotate, and kept while its server is away. */
import { createLocalJWKSet, errors, type JWSHeaderParameters, type LocalJWKSet } from "jose";
import { realTimers, type Timers } from "../ground/timers.ts";
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
  after?: Timers["after"];
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

export class RemoteKeys {
  readonly #timing: typeof remoteKeysTiming;
  readonly #stopping = new AbortController();
  #keys: LocalJWKSet | null = null;
  #revision = 0;
  #fetchedAt = Number.NEGATIVE_INFINITY;
  #attemptedAt = Number.NEGATIVE_INFINITY;
  #attemptFailed = false;
  #pending: Promise<void> | null = null;

  constructor(private readonly options: RemoteKeysOptions) {
    this.#timing = { ...remoteKeysTiming, ...options.timing };
  }

  /**
   * Finds the keys that a token with this header may be signed with; an empty list where the set has none.
   * @throws Unavailable where that cannot be known now
   */
  async candidates(header: JWSHeaderParameters): Promise<CryptoKey[]> {
    await this.bringUpToDate();
    const found = await this.#find(header);
    if (found.length > 0) return found;
    if (this.#keys !== null) {
      await this.#refreshIfDue(this.#timing.cooldownMs);
      const fresh = await this.#find(header);
      if (fresh.length > 0) return fresh;
    }
    // A key server that is away may hold the key: a client that gave up for good would be wrong to.
    if (this.#keys === null || this.#attemptFailed) {
      throw new Unavailable("auth", "The keys that tokens are checked with are not available.");
    }
    return [];
  }

  /** Changes whenever a set takes the place of another. */
  get revision(): number {
    return this.#revision;
  }

  /** Fetches now, whatever the cache says, once for all who ask. Rejects where that fails; the keys that were there stay. */
  refresh(): Promise<void> {
    this.#pending ??= this.#fetch().finally(() => {
      this.#pending = null;
    });
    return this.#pending;
  }

  stop(): void {
    this.#stopping.abort();
  }

  async #find(header: JWSHeaderParameters): Promise<CryptoKey[]> {
    return this.#keys === null ? [] : keysFor(this.#keys, header);
  }

  /** Fetches again what is too old; never rejects, for what is cached may do. */
  async bringUpToDate(): Promise<void> {
    const ageMs = this.#ageOf(this.#fetchedAt);
    if (ageMs < this.#timing.refreshAfterMs) return;
    const refreshed = this.#refreshIfDue(0);
    // No request waits where cached keys will do, nor again for a server that is known to be away.
    const isStale = ageMs >= this.#timing.staleAfterMs;
    if (this.#keys === null || (isStale && !this.#attemptFailed)) await refreshed;
  }

  /** Fetches where that is due; never rejects, for what is cached may do. */
  async #refreshIfDue(dueAfterMs: number): Promise<void> {
    const afterMs = this.#attemptFailed ? this.#timing.retryAfterMs : dueAfterMs;
    if (this.#pending === null && this.#ageOf(this.#attemptedAt) < afterMs) return;
    await this.refresh().catch(() => {});
  }

  /** Since then, ms; endless where the clock was set back, or nothing would be due until it has caught up. */
  #ageOf(at: number): number {
    const ageMs = this.options.now() - at;
    return ageMs < 0 ? Number.POSITIVE_INFINITY : ageMs;
  }

  async #fetch(): Promise<void> {
    const { url, now, fetch, onFault, after = realTimers.after } = this.options;
    this.#attemptedAt = now();
    const late = new AbortController();
    const tooLate = () => late.abort(new DOMException("The key server has not answered.", "TimeoutError"));
    const callOff = after(this.#timing.fetchDeadlineMs, tooLate);
    try {
      const signal = AbortSignal.any([this.#stopping.signal, late.signal]);
      const response = await fetch(url, {
        headers: { accept: "application/jwk-set+json, application/json" },
        // A server that can redirect the request could choose the keys.
        redirect: "error",
        signal,
      });
      const set = JSON.parse(await readBounded(response));
      if (Array.isArray(set?.keys) && set.keys.length > keysMax) throw new Error(`more than ${keysMax} keys`);
      this.#keys = createLocalJWKSet(set);
      this.#revision++;
      this.#fetchedAt = now();
      this.#attemptFailed = false;
    } catch (error) {
      this.#attemptFailed = true;
      if (!this.#stopping.signal.aborted)
        onFault(`The keys of auth.jwks_url could not be fetched: ${reasonOf(error)}.`);
      throw error;
    } finally {
      callOff();
    }
  }
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
