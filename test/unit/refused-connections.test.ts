/** The line that sums up refused connections. */
import { expect, test } from "bun:test";
import { Counts } from "../../src/telemetry/counts.ts";
import { RefusedConnections } from "../../src/websocket/refused.ts";
import { Refusal } from "../../src/websocket/upgrade.ts";

test("[CON1] each line speaks of its own time, is short, and is not written where nobody was refused", () => {
  const lines: object[] = [];
  let now = 0;
  const counts = new Counts();
  const refused = new RefusedConnections({
    now: () => now,
    counts,
    logger: { info: (line: object) => void lines.push(line) } as never,
  });
  refused.tell();
  refused.note(new Refusal(503, "draining", "This node is shutting down."));
  now = 60_000;
  refused.tell();
  for (let reason = 0; reason < 200; reason++) refused.note(new Refusal(401, "token_invalid", `${reason}`));
  now = 90_000;
  refused.stop();
  refused.stop();
  expect(counts.refused).toEqual({ 401: 200, 503: 1 });
  expect(lines).toHaveLength(2);
  expect(lines[0]).toEqual({ total: 1, refused: { "503 draining: This node is shutting down.": 1 }, seconds: 60 });
  expect(lines[1]).toMatchObject({ total: 200, refused: { others: 150 }, seconds: 30 });
});
