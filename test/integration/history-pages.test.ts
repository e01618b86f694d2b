/** Proves that a page of history is never larger than what a client may have waiting for it [LOG8] [CON7]. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { createPeople, fresh } from "../support/people.ts";
import { type Service, startService } from "../support/service.ts";

setDefaultTimeout(60_000);

let service: Service;
beforeAll(async () => {
  service = await startService();
});
afterAll(() => service.stop());
const { gather } = createPeople(() => service.url);

test("[LOG8] pages of large events are shorter, in either direction, and say that there are more", async () => {
  const c = fresh("c");
  const [anna] = await gather(c, [fresh("anna")]);
  const content = "x".repeat(1024 * 1024);
  const count = 40;
  for (let n = 0; n < count; n++) {
    await anna!.ask("message.send", { conversation_id: c, client_message_id: fresh("m"), content });
  }
  const read = async (next: (seqs: number[]) => object) => {
    const seqs: number[] = [];
    for (let more = true; more; ) {
      const page = await anna!.ask("history", { topic: `conversation:${c}`, limit: 200, ...next(seqs) });
      const found = page.events.map(({ seq }: { seq: number }) => seq);
      expect(found.length).toBeGreaterThan(0);
      expect(found.length).toBeLessThan(10);
      seqs.push(...found);
      seqs.sort((one, other) => one - other);
      more = page.has_more;
    }
    return seqs;
  };
  const all = Array.from({ length: count }, (_, n) => n + 1);
  expect(await read((seqs) => ({ after_seq: seqs.at(-1) ?? 0 }))).toEqual(all);
  expect(await read((seqs) => (seqs.length === 0 ? {} : { before_seq: seqs[0] }))).toEqual(all);
});
