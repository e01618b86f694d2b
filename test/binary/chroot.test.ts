/** Proves the runtime image without a container engine: the binary alone, not as root, on a read-only root folder. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Client } from "../support/client.ts";
import { Image } from "../support/image.ts";
import { type Service, startService } from "../support/service.ts";

let image: Image;
let service: Service;

beforeAll(async () => {
  image = await Image.create();
  const { entrypoint, cmd, env } = image.stage;
  service = await startService({
    command: image.command([...entrypoint, ...cmd]),
    settings: {
      ...Object.fromEntries(Object.entries(env).map(([name, value]) => [name.replace(/^WS__/, ""), value])),
      AUTH__BEHIND_GATEWAY: "true",
      SERVER__HOST: "127.0.0.1",
    },
  });
});
afterAll(async () => {
  await service?.stop();
  image?.remove();
});

/** Runs a program inside, to its end. */
function run(words: string[], env: Record<string, string> = {}) {
  const { exitCode, stdout, stderr } = Bun.spawnSync(image.command(words), {
    env: { PATH: process.env.PATH ?? "", ...env },
    stdout: "pipe",
    stderr: "pipe",
  });
  return { code: exitCode, stdout: stdout.toString(), stderr: stderr.toString() };
}

test("[MSG1] clients talk to the service inside, which runs as the image's user and keeps its log in /data", async () => {
  const [anna, ben] = await Promise.all(
    ["anna", "ben"].map((user_id) => Client.connect(service.url, { query: { user_id } })),
  );
  for (const client of [anna!, ben!]) await client.ask("subscribe", { topics: ["conversation:c1"] });
  await anna!.ask("message.send", { conversation_id: "c1", client_message_id: "m1", content: "hello" });
  expect((await ben!.next("message.new")).payload.content).toBe("hello");

  const status = readFileSync(`/proc/${service.pid}/status`, "utf8");
  const [uid, gid] = image.stage.user.split(":");
  expect(uid).not.toBe("0");
  expect(status).toMatch(new RegExp(`^Uid:\\t${uid}\\t${uid}\\t${uid}\\t${uid}$`, "m"));
  expect(status).toMatch(new RegExp(`^Gid:\\t${gid}\\t${gid}\\t${gid}\\t${gid}$`, "m"));
  expect(status).toMatch(/^CapEff:\t0+$/m);
  expect(existsSync(join(image.folder, "data/ws-service.db"))).toBeTrue();
});

test("nothing but the data folder and /tmp can be written to", () => {
  const inside = `/proc/${service.pid}/root`;
  // Not even by root: it is the file system that is read-only, not only its permissions.
  for (const folder of ["", "/etc", "/usr/local/bin"])
    expect(() => writeFileSync(`${inside}${folder}/new`, "")).toThrow("EROFS");
  const [program] = image.stage.entrypoint;
  const elsewhere = run([program!, "migrate"], { WS__STORAGE__URL: "sqlite:/elsewhere/log.db" });
  expect(elsewhere).toMatchObject({ code: 1, stdout: "" });
  expect(elsewhere.stderr).toContain("not migrated");
  expect(run([program!, "migrate"], { WS__STORAGE__URL: "sqlite:/data/other.db" })).toMatchObject({ code: 0 });
  // Nothing was left beside what the image began with.
  expect(readdirSync(image.folder).sort()).toEqual(expect.arrayContaining(["data", "etc", "proc", "tmp", "usr"]));
  expect(readdirSync(join(image.folder, "tmp"))).toEqual([]);
});

test("[END2] the image's health check tells a ready service from one that is gone", async () => {
  const env = { WS__SERVER__PORT: String(service.port) };
  expect(run(image.stage.healthcheck, env)).toMatchObject({ code: 0, stderr: "" });
  service.signal("SIGTERM");
  expect(await service.exited).toBe(0);
  expect(run(image.stage.healthcheck, env)).toMatchObject({ code: 1 });
});

test("[CON2] without a word on authentication the image refuses to start, and says why", () => {
  const { entrypoint, cmd, env } = image.stage;
  const refused = run([...entrypoint, ...cmd], env);
  expect(refused.code).toBe(78);
  expect(refused.stderr).toContain("auth.behind_gateway");
});
