/** Proves that a block outlives the process that made it, also of a node that is alone on a SQLite file [ADM1]. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { Client } from "../support/client.ts";
import { startService } from "../support/service.ts";

setDefaultTimeout(60_000);

test("[ADM1] who is blocked is kept out after a crash and a start, and let in once the block is lifted", async () => {
  const first = await startService();
  const { folder } = first;
  const admin = await Client.connect(first.url, { query: { user_id: "root", roles: "admin" } });
  await admin.ask("admin.block", { user_id: "mal", for: "1h" });
  await first.kill();
  const second = await startService({ folder });
  try {
    const open = () => Client.connect(second.url, { query: { user_id: "mal" } });
    await expect(open()).rejects.toThrow();
    const operator = await Client.connect(second.url, { query: { user_id: "root", roles: "admin" } });
    await operator.ask("admin.block", { user_id: "mal", for: 0 });
    await (await open()).close();
    await operator.close();
  } finally {
    await second.stop();
  }
});
