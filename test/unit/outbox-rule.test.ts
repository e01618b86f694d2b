/** Holds the outbox's own check, which is SQL, to the rules that stand in TypeScript [PUB2]. */
import { expect, test } from "bun:test";
import { notEvents } from "../../src/ingest/publication.ts";
import { clientPayloads } from "../../src/protocol/client.ts";
import { limits } from "../../src/protocol/limits.ts";
import { serverPayloads } from "../../src/protocol/server.ts";
import { missedTopic, topicKinds } from "../../src/protocol/topic.ts";
import { steps } from "../../src/storage/postgres/schema.ts";

test("[PUB2] what the database refuses of topics, keys and types is what the service would", () => {
  const sql = steps.map((step) => step("ws")).join("\n");
  // Of a function that a later step has made anew, that counts.
  const check = sql.slice(sql.lastIndexOf("FUNCTION ws.outbox_check() RETURNS")).split("END $body$")[0]!;
  const [, kinds, idLength] = /\^\(([a-z|]+)\):\[!-~\]\{1,(\d+)\}\$/.exec(check)!;
  // On the topic of what was missed the service alone says something.
  const isPublished = ([kind, { logged }]: [string, { logged: boolean }]) => logged && kind !== missedTopic.kind;
  const logged = Object.entries(topicKinds)
    .filter(isPublished)
    .map(([kind]) => kind);
  expect(kinds!.split("|").toSorted()).toEqual(logged.toSorted());
  expect(Number(idLength)).toBe(limits.identifierLength);
  const [, keyLength] = /event_key COLLATE "C" !~ '\^\[!-~\]\{1,(\d+)\}\$'/.exec(check)!;
  expect(Number(keyLength)).toBe(limits.identifierLength);
  expect(check).toContain(`'${clientPayloads.publish.pipe[0].entries.type.pipe[1].requirement.source}'`);
  const [, replies] = /NEW\.type IN \(([^)]*)\)/.exec(check)!;
  expect(new Set(replies!.match(/[a-z.]+/g))).toEqual(new Set(notEvents));
});

test("[PUB2] [MSG2] the database knows of messages, and of changes of them, each field that the service knows", () => {
  const sql = steps.map((step) => step("ws")).join("\n");
  const rows = [...sql.matchAll(/\((NULL|'message\.\w+'), '(\w+)', '(?:id|content|moment|later|reaction|flag)'/g)];
  for (const type of ["message.new", "message.edited", "message.deleted", "message.reaction"] as const) {
    const names = rows.filter(([, of]) => of === "NULL" || of === `'${type}'`).map(([, , name]) => name);
    expect([type, names.toSorted()]).toEqual([type, Object.keys(serverPayloads[type].entries).toSorted()]);
  }
  expect(sql).toContain(`NOT BETWEEN 1 AND ${limits.reactionBytes} THEN`);
});
