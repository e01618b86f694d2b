/**
 * A list of conversations: what a client asks until it can draw it, for 100, 1,000 and 10,000 of them; with `--first <folder>`, where the
 * sources of 0.1 are, beside that release, in which each last message was a request of its own.
 */
import { join, resolve } from "node:path";
import { startPostgres } from "../test/support/postgres.ts";
import { count, counts, existingFolder, readOptions, someOf } from "./support/command-line.ts";
import { type Asked, fillList, ListClient } from "./support/list-client.ts";
import { present } from "./support/measured.ts";
import { startFromSources } from "./support/sources.ts";
import { median } from "./support/statistics.ts";
import { temporaryFolder } from "./support/temporary.ts";

const values = readOptions({
  first: existingFolder("Where 0.1 is checked out, with its dependencies."),
  conversations: counts("100,1000,10000"),
  rounds: count(5),
  engines: someOf(["SQLite", "PostgreSQL"]),
});

const here = resolve(import.meta.dir, "..");
const releases: [name: "0.1" | "now", root: string][] = [["now", here]];
if (values.first !== undefined) releases.unshift(["0.1", resolve(values.first)]);

let statements = 0;
const postgres = await startPostgres({
  settings: ["log_statement=all", "log_line_prefix=%a|"],
  onSaid(text) {
    statements += text.match(/^ws-service\|LOG: {2}(?:execute|statement)/gm)?.length ?? 0;
  },
});
const folder = temporaryFolder("ws-list-bench");
try {
  const rows: Record<string, string | number>[] = [];
  for (const engine of values.engines) {
    for (const count of values.conversations) {
      for (const [release, root] of releases) {
        const row = await measure({ engine, count, release, root });
        // Each as it comes: the longest lists take minutes to make.
        console.log(JSON.stringify(row));
        rows.push(row);
      }
    }
  }
  present("list", rows);
} finally {
  await postgres.stop();
}

interface Scene {
  engine: "SQLite" | "PostgreSQL";
  count: number;
  release: "0.1" | "now";
  root: string;
}

async function measure({ engine, count, release, root }: Scene): Promise<Record<string, string | number>> {
  const file = join(folder, `${release}-${count}.db`);
  const url = engine === "SQLite" ? `sqlite:${file}` : await postgres.newDatabase();
  const { child: service, port } = await startFromSources({ root, folder, url });
  const measured: (Asked & { statements: number })[] = [];
  try {
    await fillList(port, count);
    for (let round = 0; round <= Number(values.rounds); round++) {
      const client = await ListClient.open(port, "anna");
      await quiet();
      const before = statements;
      const asked = await client.askForList(release === "0.1" ? count : 0);
      await quiet();
      // The first one has plans and code made.
      if (round > 0) measured.push({ ...asked, statements: statements - before });
      client.close();
    }
  } finally {
    service.kill();
    await service.exited;
  }
  const typical = (value: (one: (typeof measured)[number]) => number) => Math.round(median(measured.map(value)));
  return {
    engine,
    conversations: count,
    release,
    requests: typical((it) => it.requests),
    "ms until drawn": typical((it) => it.tookMs),
    KiB: typical((it) => it.bytes / 1024),
    "last messages": typical((it) => it.lastMessages),
    "PostgreSQL's statements": engine === "PostgreSQL" ? typical((it) => it.statements) : "",
  };
}

/** Waits for what PostgreSQL says, which comes a little later than its answers. */
function quiet(): Promise<void> {
  return Bun.sleep(300);
}
