/** Proves that a process which may open too few files says so at the start, and when it has run out of them. */
import { afterEach, expect, setDefaultTimeout, test } from "bun:test";
import { connect, type Socket } from "node:net";
import { Client } from "../support/client.ts";
import { program } from "../support/program.ts";
import { type Service, startService } from "../support/service.ts";
import { eventually } from "../support/until.ts";

setDefaultTimeout(60_000);
const limit = 120;
let service: Service | null = null;
afterEach(async () => {
  await service?.stop();
});

test.skipIf(process.platform !== "linux")(
  "[CON1] too few file descriptors are told at the start, and running out of them once, as is its end",
  async () => {
    const command = ["sh", "-c", `ulimit -n ${limit}; exec "$@"`, "sh", ...program];
    service = await startService({ command, settings: { OPERATIONS__SAMPLE_INTERVAL: "1s" } });
    const few = await service.logged(({ msg }) => msg.startsWith("fewer files may be open than"));
    expect(few).toMatchObject({ level: "warn", limit, needed: 100_210 });

    const anna = await Client.connect(service.url, { query: { user_id: "anna" } });
    const operator = await Client.connect(service.url, { query: { user_id: "otto", roles: "admin" } });
    const samples = async () => (await operator.ask("admin.samples")).samples as { memory_bytes: number }[];
    const sockets: Socket[] = [];
    for (let n = 0; n < limit; n++) sockets.push(connect(service.port, "127.0.0.1").on("error", () => {}));
    const out = await service.logged(({ msg }) => msg.startsWith("out of file descriptors"));
    expect(out).toMatchObject({ level: "error", limit, connections: 2 });
    // A client that is here is served all the same, and what is counted goes on [ADM1].
    await anna.ask("ping");
    const before = (await samples()).length;
    const after = await eventually(samples, ({ length }) => length > before + 1);
    expect(after.at(-1)!.memory_bytes).toBeGreaterThan(1_000_000);
    for (const socket of sockets) socket.destroy();
    await service.logged(({ msg }) => msg === "file descriptors are free again");
    await (await Client.connect(service.url, { query: { user_id: "ben" } })).close();
    expect(service.logs.filter(({ msg }) => msg.startsWith("out of"))).toHaveLength(1);
  },
);
