/** Gives pages what they show: the session, requests that are asked again and again, and where the reader is. */
import { createContext, useCallback, useContext, useEffect, useState, useSyncExternalStore } from "react";
import type { Connection } from "../client/connection.ts";
import type { Reply, RequestType } from "../client/core.ts";
import type { ClientPayloads } from "../client/wire.ts";
import { LastHour, type Sample } from "./last-hour.ts";
import { type About, sentenceOfError } from "./session.ts";

export interface OperatorSession {
  about: About;
  connection: Connection;
  signOut: () => void;
}

export const SessionContext = createContext<OperatorSession | null>(null);

export function useSession(): OperatorSession {
  const session = useContext(SessionContext);
  if (session === null) throw new Error("There is no session here.");
  return session;
}

export const useConnectionState = (connection: Connection) =>
  useSyncExternalStore(
    useCallback((listener: () => void) => connection.onState(listener), [connection]),
    () => connection.state,
  );

export interface Asked<T extends RequestType> {
  /** The last one that came; of another question there is none. */
  reply: Reply<T> | null;
  error: string | null;
  again: () => void;
}

/** Asks, and again every so often, ms, and at once when told to; a page that nobody sees asks nothing. */
export function useRequest<T extends RequestType>(
  type: T,
  payload: ClientPayloads[T],
  everyMs: number | null = null,
): Asked<T> {
  const { connection } = useSession();
  const key = `${type} ${JSON.stringify(payload)}`;
  const [answer, setAnswer] = useState<{ key: string; reply: Reply<T> | null; error: string | null } | null>(null);
  const [turn, setTurn] = useState(0);
  const again = useCallback(() => setTurn((it) => it + 1), []);
  // The key says which type and payload; the turn asks again.
  useEffect(() => {
    let isOver = false;
    let timer: ReturnType<typeof setTimeout>;
    async function ask(): Promise<void> {
      if (!document.hidden) {
        try {
          const reply = await connection.request(type, payload);
          if (!isOver) setAnswer({ key, reply, error: null });
        } catch (error) {
          if (!isOver)
            setAnswer((before) => ({
              key,
              reply: before?.key === key ? before.reply : null,
              error: sentenceOfError(error),
            }));
        }
      }
      if (!isOver && everyMs !== null) timer = setTimeout(ask, everyMs);
    }
    void ask();
    return () => {
      isOver = true;
      clearTimeout(timer);
    };
  }, [connection, key, everyMs, turn]);
  const isOfThis = answer?.key === key;
  return { reply: isOfThis ? answer.reply : null, error: isOfThis ? answer.error : null, again };
}

/** Requests whose answers come in pages, each of which goes on after the last row of the one before. */
type PagedType = { [T in RequestType]: Reply<T> extends { next: string | null } ? T : never }[RequestType];

/** Turns the pages of an answer; a first one that has all of it has nothing to turn. */
export interface Turns {
  isFirst: boolean;
  next: string | null;
  onBack: () => void;
  onNext: (next: string) => void;
}

/** Asks for one page, as `useRequest` does, and for others as the reader turns to them. */
export function usePages<T extends PagedType>(
  type: T,
  payload: ClientPayloads[T],
  everyMs: number,
): Asked<T> & { pages: Turns } {
  const [afters, setAfters] = useState<string[]>([]);
  const after = afters.at(-1);
  const asked = useRequest(type, after === undefined ? payload : { ...payload, after }, everyMs);
  const pages = {
    isFirst: afters.length === 0,
    next: asked.reply?.next ?? null,
    onBack: () => setAfters(afters.slice(0, -1)),
    onNext: (next: string) => setAfters([...afters, next]),
  };
  return { ...asked, pages };
}

/** Follows the samples of the last hour: all of it once, then what is new. @param nodeId of one node alone */
export function useSamples(nodeId: string | undefined): {
  stepMs: number;
  samples: readonly Sample[];
  error: string | null;
} {
  const { connection } = useSession();
  const [hour, setHour] = useState<{ stepMs: number; samples: readonly Sample[]; error: string | null }>(nothing);
  useEffect(() => {
    let isOver = false;
    let timer: ReturnType<typeof setTimeout>;
    const lastHour = new LastHour();
    setHour(nothing);
    async function ask(): Promise<void> {
      const { after } = lastHour;
      const of = nodeId === undefined ? {} : { node_id: nodeId };
      let stepMs = 10_000;
      try {
        const reply = await connection.request("admin.samples", after === undefined ? of : { ...of, after });
        if (isOver) return;
        stepMs = reply.step_ms;
        setHour({ stepMs, samples: lastHour.take(reply), error: null });
      } catch (error) {
        if (!isOver) setHour((before) => ({ ...before, error: sentenceOfError(error) }));
      }
      if (!isOver) timer = setTimeout(ask, Math.min(stepMs, 5_000));
    }
    void ask();
    return () => {
      isOver = true;
      clearTimeout(timer);
    };
  }, [connection, nodeId]);
  return hour;
}

const nothing = { stepMs: 10_000, samples: [], error: null };

/** Reads where the reader is: `#/users/anna?kind=device` → path `["users", "anna"]`. */
export function useRoute(): { path: string[]; query: URLSearchParams } {
  const hash = useSyncExternalStore(
    (listener) => {
      addEventListener("hashchange", listener);
      return () => removeEventListener("hashchange", listener);
    },
    () => location.hash,
  );
  const [path = "", query = ""] = hash.replace(/^#\/?/, "").split("?");
  return { path: path.split("/").filter(Boolean).map(decoded), query: new URLSearchParams(query) };
}

/** Leaves a part as it is that was never encoded: anybody may type an address. */
function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

export const pathTo = (...parts: string[]): string => `#/${parts.map(encodeURIComponent).join("/")}`;
