/** Opens the client's session for a command: with the token in a header, and the reason where the line ends or is refused. */
import { Session, type SessionOptions } from "../client/connection/session.ts";
import { pageSurroundings, systemClock } from "../client/ground/surroundings.ts";
import { subprotocols } from "../protocol/limits.ts";
import { askWhyRefused, refusedStatus } from "./refusal.ts";

export interface ServerSessionOptions
  extends Pick<SessionOptions, "ownTopics" | "onState" | "onNews" | "onTaken" | "mayBeNobody"> {
  url: URL;
  /** Asked for each connection; null: the URL says who this is. */
  token: () => string | null;
}

export interface ServerSession {
  session: Session;
  /** How the last line ended, for people: `4010 …`, or `HTTP 401` where it was refused. */
  readonly lastEnd: string;
  /** Status of the refusal; null where the line was open. */
  readonly refusal: number | null;
  /** As `lastEnd`, with what the server says to a plain request where it has refused the line. */
  explain(): Promise<string>;
}

export function openServerSession({ url, token, ...options }: ServerSessionOptions): ServerSession {
  let [lastEnd, refusal, target, headers] = ["", null as number | null, url, {} as Record<string, string>];
  const session = new Session({
    ...options,
    url: url.href,
    userId: null,
    tokens: null,
    whenReplaced: "stop",
    open(href) {
      const bearer = token();
      target = new URL(href);
      // In a header, not in the URL: URLs end up in logs.
      headers = bearer === null ? {} : { authorization: `Bearer ${bearer}` };
      const socket = new WebSocket(href, { headers, protocols: [subprotocols.json] });
      let failure = "";
      socket.addEventListener("error", (event) => {
        failure = (event as ErrorEvent).message ?? "";
      });
      socket.addEventListener("close", ({ code, reason }) => {
        refusal = refusedStatus(failure);
        lastEnd = refusal === null ? [code, reason || failure].filter(Boolean).join(" ") : `HTTP ${refusal}`;
      });
      return socket;
    },
    clock: systemClock,
    random: Math.random,
    surroundings: pageSurroundings,
    // States and answers show what goes wrong.
    onError() {},
  });
  return {
    session,
    get lastEnd() {
      return lastEnd;
    },
    get refusal() {
      return refusal;
    },
    explain: async () => (refusal === null ? lastEnd : await askWhyRefused(refusal, { url: target, headers })),
  };
}
