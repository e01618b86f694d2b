/** Installs what the tests need and the machine lacks, asked for once and all together: files that run at once would wait for each other's lock. */
import { ensureChromium } from "./chromium.ts";
import { debianProgram, installTogether } from "./debian.ts";
import { findHaproxy } from "./haproxy.ts";
import { findNginx } from "./nginx.ts";
import { findPgBouncer } from "./pgbouncer.ts";
import { findPostgres } from "./postgres.ts";
import { findServer } from "./redis.ts";
import { findStrace } from "./system-calls.ts";
import { node, python } from "./websockets/peer.ts";

export const findSystemdAnalyze = () => debianProgram("systemd-analyze", { package: "systemd" });
export const findZsh = () => debianProgram("zsh", { package: "zsh" });
export const findPromtool = () => debianProgram("promtool", { package: "prometheus" });
export const findFish = () => debianProgram("fish", { package: "fish" });

const servers = [findServer, findPostgres, findHaproxy, findNginx, findPgBouncer];
const others = [findStrace, ensureChromium, node, python, findSystemdAnalyze, findZsh, findFish, findPromtool];

if (import.meta.main) installTogether([...servers, ...others]);
