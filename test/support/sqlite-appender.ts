/** A program that appends to a SQLite log: `once`, or until it is killed, and prints each id once it is acknowledged. */
import { writeSync } from "node:fs";
import { createSqliteStorage } from "../../src/storage/sqlite/storage.ts";

const [path, mode] = process.argv.slice(2);
const storage = createSqliteStorage({ path: path! });
await storage.start();
for (let batch = 0; mode !== "once" || batch === 0; batch++) {
  const { appended } = await storage.log.append(
    Array.from({ length: 3 }, (_, index) => ({
      id: `${process.pid}-${batch}-${index}`,
      topic: `user:${index}`,
      type: "notification",
      payload: "{}",
      createdAt: batch,
    })),
  );
  // Written at once: what this process says must not wait in its memory when it is killed.
  writeSync(1, appended.map(({ id }) => `${id}\n`).join(""));
}
await storage.stop();
