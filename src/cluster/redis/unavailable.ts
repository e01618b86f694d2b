/** Tells what it means that Redis cannot serve: it is away, or it is there and refuses, and some of that only an operator can mend. */
import { ReplyError } from "ioredis";
import { Unavailable } from "../../ground/unavailable.ts";

/** Matches replies of a server that is there but cannot serve (the last two: of a script of ours); anything else is a fault of ours. */
const cannotServe =
  /^(LOADING|CLUSTERDOWN|MASTERDOWN|READONLY|TRYAGAIN|MOVED|ASK|OOM|MISCONF|NOREPLICAS|BUSY|NOPERM|NOAUTH|WRONGPASS|LOST|SETTLING)\b/;
/** Matches what a script may not do: an error like any other, whose first word is no code of its own. */
const notPermitted = /^(ERR )?(ACL failure in script|The user executing the script can't)/;
/** Matches a database that is not there, which has no code either: the connection goes on with another one. */
const noDatabase = /^ERR (DB index is out of range|invalid DB index|SELECT is not allowed)/;
/** Matches refusals that do not pass by themselves within a moment, as the others do. */
const refusals = /^(READONLY|OOM|MISCONF|NOREPLICAS|NOPERM|NOAUTH|WRONGPASS|ERR_DB_INDEX)\b/;
/** Matches faults of the settings: whom Redis lets in, and whom either side trusts. */
const mendedByHand =
  /^(NOPERM|NOAUTH|WRONGPASS|ERR_DB_INDEX|ERR_TLS_|ERR_SSL_|CERT_|[A-Z_]*(SELF_SIGNED|UNABLE_TO|CERTIFICATE))/;
/** Matches how a connection has ended that was there, which is not why. */
const ends = /^(EPIPE|ECONNRESET|ECONNABORTED)$/;

/** Says that Redis did not answer, or not as one who can: what was asked may or may not have been done. */
export class RedisUnavailable extends Unavailable {
  /** The first word of what Redis has answered; null where it has not. */
  readonly reply: string | null;
  /** Whether Redis is there and has refused, in words of its own. */
  readonly isRefusal: boolean;

  constructor(reason: unknown) {
    const cause = reasonOf(reason);
    const reply = isReply(cause) ? codedOf(cause.message) : "";
    const word = reply.split(" ", 1)[0]!;
    const isRefusal = refusals.test(reply);
    // That of a connection that failed is worth more than a reply that passes.
    const code = isRefusal ? word : (cause as { code?: string } | null)?.code;
    super("cluster", `Redis is not available: ${wordsOf(cause)}`, {
      cause,
      code,
    });
    this.reply = word === "" ? null : word;
    this.isRefusal = isRefusal;
  }

  /** Whether all it says is that there is no connection. */
  get isEnd(): boolean {
    return this.code === undefined || ends.test(this.code);
  }

  /** Whether only an operator can mend it. */
  get isOfSettings(): boolean {
    return mendedByHand.test(this.code ?? "");
  }
}

/** Says it in our words where the library speaks of its own options. */
function wordsOf(cause: unknown): string {
  const text = cause instanceof Error ? cause.message : String(cause);
  return /maxRetriesPerRequest|enableOfflineQueue/.test(text) ? "the connection has ended" : text;
}

/** Whether it is what Redis has answered. */
export function isReply(error: unknown): error is Error {
  return error instanceof ReplyError;
}

/** Gives the first word of what Redis has answered, as it is; null where it has not. */
export const replyOf = (error: unknown): string | null => (isReply(error) ? error.message.split(" ", 1)[0]! : null);

/** Gives what Redis says, with a code in front. */
function codedOf(message: string): string {
  if (notPermitted.test(message)) return "NOPERM";
  return noDatabase.test(message) ? "ERR_DB_INDEX" : message;
}

/** Whether an answer means that Redis cannot serve now. */
export const isUnserved = ({ message }: Error): boolean => cannotServe.test(message) || notPermitted.test(message);

/** Takes of a Redis Cluster of which no server has served what the last of them has said. */
function reasonOf(error: unknown): unknown {
  const last = (error as { lastNodeError?: unknown } | null)?.lastNodeError;
  return last instanceof Error ? last : error;
}
