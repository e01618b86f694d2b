/** What both ways in are judged by: a subscriber and the history have everything once, in order [PUB2]. */
import { expect } from "bun:test";
import { resolve } from "node:path";
import type { Client, Received } from "./client.ts";

/** The events of a type on a topic as a connected client got them, once `count` are there. */
export function arrived(client: Client, topic: string, count: number): Promise<Received[]> {
  return client.until(() => {
    const events = client.received.filter((message) => message.topic === topic);
    return events.length >= count ? events : undefined;
  }, `${count} events of ${topic}`);
}

/** All of a topic's history, oldest first. */
export async function historyOf(client: Client, topic: string): Promise<Received[]> {
  const all: Received[] = [];
  for (;;) {
    const { events, has_more } = await client.ask("history", { topic, after_seq: all.at(-1)?.seq ?? 0, limit: 200 });
    all.push(...events);
    if (!has_more) return all;
  }
}

/** Events with `payload.n` from 1 to `count`, with `seq` from 1 on: none missing, none twice, none out of place. */
export function expectCounted(events: Received[], count: number): void {
  const counted = Array.from({ length: count }, (_, index) => index + 1);
  expect(events.map(({ payload }) => payload.n)).toEqual(counted);
  expect(events.map(({ seq }) => seq)).toEqual(counted);
}

/** The examples of a language under a heading of `docs/operating.md`, each block as it stands. */
export async function examplesOf(language: string, heading: string): Promise<string[]> {
  const paper = await Bun.file(resolve(import.meta.dir, "../../docs/operating.md")).text();
  const section = paper.split(/^## /m).find((it) => it.startsWith(`${heading}\n`)) ?? "";
  const blocks = [...section.matchAll(new RegExp(`^\`\`\`${language}\\n([\\s\\S]*?)^\`\`\``, "gm"))];
  return blocks.map((match) => match[1]!);
}
