/** Answers what was taken under a key of its sender's as the first time, also where the sender may not send it any more [LOG2]. */
import { ProtocolError } from "../protocol/errors.ts";
import type { AppendedEvent, EventLog, Once } from "../storage/ports.ts";
import type { Requester } from "./context.ts";

interface KeyedRequest {
  from: Pick<Requester, "ahead">;
  services: { log: Pick<EventLog, "find"> };
}

/**
 * Lets a request go on that its sender may make; the log is asked only where it would be refused. Whoever has lost a right since
 * learns nothing by it but what it was told, or would have been, when its event was taken.
 * @param once keys of the sender's alone; left out: the request has none
 * @param requireRight rejects with `forbidden`
 * @returns what was appended under a key, as an append would answer it; undefined: the sender may go on
 * @throws ProtocolError `forbidden` where nothing was
 */
export async function sentBefore(
  { from, services }: KeyedRequest,
  once: Once | undefined,
  requireRight: () => Promise<void>,
): Promise<AppendedEvent | undefined> {
  // Of now: what follows is taken up only once this has its place.
  const { ahead } = from;
  try {
    await requireRight();
    return undefined;
  } catch (refusal) {
    if (once === undefined || !(refusal instanceof ProtocolError && refusal.code === "forbidden")) throw refusal;
    // The first time may be on its way to the log still [ENV7].
    await ahead;
    const first = await services.log.find(once);
    if (first === undefined) throw refusal;
    return first;
  }
}
