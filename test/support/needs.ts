/** Installs what the tests need and the machine lacks, asked for once and one after the other: files that run at once would wait for each other's lock. */
import { ensureChromium } from "./chromium.ts";
import { findHaproxy } from "./haproxy.ts";
import { findNginx } from "./nginx.ts";
import { findPgBouncer } from "./pgbouncer.ts";
import { findPostgres } from "./postgres.ts";
import { findServer } from "./redis.ts";
import { node, python } from "./websockets/peer.ts";

if (import.meta.main) {
  for (const find of [findServer, findPostgres, ensureChromium, findHaproxy, findNginx, findPgBouncer, node, python]) {
    try {
      find();
    } catch (error) {
      // The tests that need it say so as well; the others run.
      console.error(String(error));
    }
  }
}
