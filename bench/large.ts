/** How long the largest messages that are allowed, and those that are not, stop the loop: sent, read as history, replayed. */
import { limits, subprotocols, type WireFormat } from "../src/protocol/limits.ts";
import { Client } from "../test/support/client.ts";
import { readOptions } from "./support/command-line.ts";
import { type MeasuredProcess, present, startMeasured } from "./support/measured.ts";
import { median } from "./support/statistics.ts";

readOptions({});

const bytesMax = 9_900_000;
const values = limits.jsonValues - 100;
const listOf = <Item>(count: number, item: (index: number) => Item) => Array.from({ length: count }, (_, n) => item(n));

/** Lists what a client may think of to make reading hard. */
const contents: Record<string, () => object> = {
  "one long text": () => ({ text: "x".repeat(bytesMax) }),
  "one text of quotes": () => ({ text: '"'.repeat(bytesMax / 2) }),
  "empty objects": () => ({ list: listOf(values, () => ({})) }),
  "objects with keys of their own": () => ({ list: listOf(values / 2, (n) => ({ [`key${n}`]: n })) }),
  "one object of many keys": () => Object.fromEntries(listOf(values, (n) => n).map((n) => [`key${n}`, n])),
  "texts, together as long as allowed": () => ({ list: listOf(values, (n) => `${n}${"y".repeat(180)}`) }),
  "too many: 3,300,000 empty objects": () => ({ list: listOf(bytesMax / 3, () => ({})) }),
};

const rows: Record<string, string | number>[] = [];
for (const format of ["json", "protobuf"] as const) {
  const service = await startMeasured("service.ts");
  for (const [name, content] of Object.entries(contents)) {
    if (format === "protobuf" && name.startsWith("too many")) continue;
    rows.push({ format, content: name, ...(await measure(service, { format, content: content() })) });
  }
  await service.stop();
}
present("large", rows);

async function measure(service: MeasuredProcess, { format, content }: { format: WireFormat; content: object }) {
  const url = `ws://127.0.0.1:${service.port}/ws`;
  const conversation_id = `c${rows.length}`;
  const connect = (user_id: string) =>
    Client.connect(url, { query: { user_id }, protocols: [subprotocols[format]], patienceMs: 60_000 });
  const [sender, reader] = await Promise.all([connect("sender"), connect("reader")]);
  await reader.ask("subscribe", { topics: ["conversation"], filters: { conversation_id } });
  const { cursor } = await reader.ask("ping");
  await reader.ask("unsubscribe", { topics: ["conversation"], filters: { conversation_id } });
  const stalls: Record<string, string | number> = {};
  const during = async (what: string, run: () => Promise<unknown>) => {
    const rounds: number[] = [];
    for (let round = 0; round < 5; round++) {
      await service.report("lag");
      await run();
      rounds.push((await service.report("lag")).lag!.most);
    }
    stalls[`${what} ms`] = Math.round(median(rounds));
  };
  let sent = 0;
  await during("send", () =>
    sender.request("message.send", { conversation_id, client_message_id: `m${sent++}`, content }),
  );
  await during("history", () => reader.request("history", { topic: `conversation:${conversation_id}`, limit: 1 }));
  const since = { cursor };
  await during("replay", async () => {
    await reader.request("subscribe", { topics: ["conversation"], filters: { conversation_id }, since });
    await reader.request("unsubscribe", { topics: ["conversation"], filters: { conversation_id } });
  });
  await Promise.all([sender.close(), reader.close()]);
  return stalls;
}
