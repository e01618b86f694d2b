/** Asks for everything that there is while something is away, and says what cannot be had without it. */
import { expect } from "bun:test";
import { type ClientMessageType, clientMessageTypes } from "../../src/protocol/client.ts";
import type { Client } from "./client.ts";
import { clientExamples } from "./examples.ts";

/**
 * Sends examples of every type of request: what cannot be answered is to be tried again, and nothing is a fault of ours.
 * @param clients share the work, for some answers take their time
 * @returns the types of which an example was `unavailable`
 */
export async function unavailableTypes(
  clients: Client[],
  { examplesMax, filledIn = {} }: { examplesMax: number; filledIn?: Partial<Record<ClientMessageType, object>> },
): Promise<ClientMessageType[]> {
  const found = new Set<ClientMessageType>();
  const waiting = clientMessageTypes.flatMap((type) =>
    clientExamples[type].slice(0, examplesMax).map((example) => ({ type, example })),
  );
  async function askOn(client: Client): Promise<void> {
    for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
      const { type, example } = next;
      const reply = await client.request(type, { ...example, ...filledIn[type] }).catch(() => null);
      if (reply === null) {
        // Not looked up to the end when it went away, it was sent off to come back: another one asks.
        waiting.push(next);
        return;
      }
      const { payload } = reply;
      expect({ type, code: payload.code }).not.toEqual({ type, code: "internal" });
      if (payload.code !== "unavailable") continue;
      found.add(type);
      expect(payload).toMatchObject({ retryable: true, retry_after_ms: expect.any(Number) });
    }
  }
  await Promise.all(clients.map(askOn));
  expect(waiting).toEqual([]);
  return [...found].sort();
}
