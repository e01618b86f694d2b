/** Holds configs/compose.yaml to the program: its settings are settings, its commands are commands, its parts exist. */
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "../../src/commands/args.ts";
import type { Command } from "../../src/commands/command.ts";
import { migrate } from "../../src/commands/migrate.ts";
import { serve } from "../../src/commands/serve.ts";
import { parseWorkers } from "../../src/commands/serve-workers.ts";
import { keys } from "../../src/config/keys.ts";
import { loadConfig } from "../../src/config/loader.ts";
import { isLoopbackOrigin } from "../../src/config/origins.ts";
import { parseDuration } from "../../src/config/values.ts";
import { imageEnvironment } from "../support/dockerfile.ts";
import { projectFolder } from "../support/program.ts";

interface Part {
  image: string;
  build?: { context: string; target: string };
  command?: string[];
  environment?: Record<string, string>;
  depends_on?: Record<string, { condition: string }>;
  healthcheck?: { test: string[]; disable?: boolean };
  volumes?: string[];
  restart?: string;
  stop_grace_period?: string;
  ulimits?: { nofile: { soft: number; hard: number } };
}

const read = (file: string) => readFileSync(join(projectFolder, file), "utf8");
const file = Bun.YAML.parse(read("configs/compose.yaml")) as {
  services: Record<string, Part>;
  volumes: Record<string, unknown>;
};
const { services } = file;
const programParts = ["service", "migrate"].map((name) => [name, services[name]!] as const);

/** As the container engine fills them in; `:?` is what somebody must give, `:+` what is there where it was given. */
const filled = (text: string, given: Record<string, string>) =>
  text.replace(/\$\{(\w+)(?::([-?+])([^}]*))?\}/g, (_found, name: string, kind?: string, rest = "") => {
    if (kind === "+") return given[name] === undefined ? "" : rest;
    if (given[name] !== undefined) return given[name];
    if (kind === "-") return rest;
    throw new Error(`${name}: ${rest}`);
  });

const environmentOf = ({ environment = {} }: Part, given: Record<string, string>) =>
  Object.fromEntries(Object.entries(environment).map(([name, value]) => [name, filled(String(value), given)]));

const given = { AUTH_SECRET: "x".repeat(32), POSTGRES_PASSWORD: "pg", REDIS_PASSWORD: "rd" };

test("every variable that the program's parts set is a setting, and the loader takes them over the image's own", async () => {
  const variables = new Set(keys.map(({ variable }) => variable));
  for (const [name, part] of programParts) {
    expect(Object.keys(part.environment!).filter((variable) => !variables.has(variable))).toEqual([]);
    const env = { ...imageEnvironment(part.build!.target), ...environmentOf(part, given) };
    const { config, origins } = await loadConfig({ env, cwd: tmpdir() });
    expect([name, config.storage.url]).toEqual([name, "postgres://ws:pg@postgres:5432/ws"]);
    expect([name, config.cluster.url]).toEqual([name, "redis://:rd@redis:6379"]);
    expect([name, origins.get("cluster.url")]).toEqual([name, "WS__CLUSTER__URL"]);
    expect([name, config.auth.mode]).toEqual([name, "token"]);
    // Descriptors for as many as may come, and for what else is open.
    expect(part.ulimits!.nofile.soft).toBeGreaterThan(config.websocket.max_connections + 500);
    // The engine's patience must outlast the program's own.
    const graceMs = parseDuration(services.service!.stop_grace_period!)!;
    expect(graceMs).toBeGreaterThan(config.server.drain_timeout + 10_000);
  }
});

test("what is commented out for those behind a proxy is a setting that is taken", async () => {
  const [, name, value] = /# (WS__SERVER__TRUSTED_PROXIES): (\S+)\n/.exec(read("configs/compose.yaml"))!;
  const { config } = await loadConfig({ env: { [name!]: value! }, cwd: tmpdir() });
  expect(config.server.trusted_proxies).toEqual(["172.16.0.0/12"]);
});

test("[END3] with a token there are figures, where Prometheus looks for them, and without one there are none", async () => {
  const [, part] = programParts[0]!;
  const configOf = async (more: Record<string, string>) => {
    const env = { ...imageEnvironment(part.build!.target), ...environmentOf(part, { ...given, ...more }) };
    return (await loadConfig({ env, cwd: tmpdir() })).config;
  };
  expect((await configOf({})).operations.listen).toBeNull();
  const { operations } = await configOf({ OPERATIONS_TOKEN: "t".repeat(32) });
  expect([operations.listen, operations.token]).toEqual([{ host: "0.0.0.0", port: 9090 }, "t".repeat(32)]);
  const { content } = (file as unknown as { configs: { prometheus: { content: string } } }).configs.prometheus;
  const { scrape_configs: scrapes } = Bun.YAML.parse(content) as { scrape_configs: any[] };
  const workers = Number(parseArgs(serve, part.command!.slice(1)).value("workers"));
  const ports = Array.from({ length: workers }, (_, worker) => `service:${operations.listen!.port + worker}`);
  expect(scrapes[0].static_configs).toEqual([{ targets: ports }]);
});

test("there is no secret in the file: without one it does not start", () => {
  expect(() => environmentOf(services.service!, {})).toThrow("AUTH_SECRET: must be a secret of at least 32 bytes");
  for (const left of ["POSTGRES_PASSWORD", "REDIS_PASSWORD"] as const)
    for (const name of ["service", "migrate", left.split("_")[0]!.toLowerCase()]) {
      const { [left]: _, ...others } = given;
      expect(() => environmentOf(services[name]!, others)).toThrow(`${left}: must be a password`);
    }
  const { command, environment } = services.redis!;
  const password = filled(command!.at(command!.indexOf("--requirepass") + 1)!, given);
  expect([password, filled(environment!.REDISCLI_AUTH!, given)]).toEqual(["rd", "rd"]);
});

test("[CON1] the image starts as the docs run it, with a directory that not everybody fills", async () => {
  for (const doc of ["README.md", "Dockerfile"]) {
    const command = /docker run (?:[^`#]|\\\n)*?WS__AUTH__MODE=token[\s\S]*? ws-service\n/.exec(read(doc))![0];
    const words = [...command.matchAll(/-e (WS__\w+)=("[^"]*"|\S+)/g)].map(
      ([, name, value]) => [name!, value!] as const,
    );
    const env = { ...imageEnvironment("runtime"), ...Object.fromEntries(words), WS__AUTH__SECRET: "x".repeat(32) };
    const { config, notices } = await loadConfig({ env, cwd: tmpdir() });
    expect([config.auth.mode, config.directory.mode, config.server.host]).toEqual(["token", "managed", "0.0.0.0"]);
    expect(notices).toEqual([]);
    // On the volume; and of all that may name another storage nothing is weaker than what the image says.
    const workingFolder = /^WORKDIR (.*)$/m.exec(read("Dockerfile").split(" AS runtime")[1]!)![1]!;
    expect(resolve(workingFolder, config.storage.url.replace(/^sqlite:/, ""))).toBe("/data/ws-service.db");
    const elsewhere = await loadConfig({ env: { ...env, DATABASE_URL: "postgres://db/ws" }, cwd: tmpdir() });
    expect(elsewhere.config.storage.url).toBe("postgres://db/ws");
  }
  // For development any page of the developer's machine, and no other.
  const dev = await loadConfig({ env: imageEnvironment("dev"), cwd: tmpdir() });
  expect(dev.config.server.allowed_origins.filter((it) => !isLoopbackOrigin(it))).toEqual([]);
});

test("wherever its commands are shown the secret is kept for those that follow", () => {
  for (const doc of ["configs/compose.yaml", "docs/operating.md"]) {
    const [before, ...commands] = read(doc).split(/(?:^# {3})?docker compose -f configs\/compose\.yaml /m);
    // Makes first who is to be served, for nobody else is [CON1].
    expect([doc, commands.map((it) => it.split(" ")[0])]).toEqual([doc, ["up", "run", "exec", "exec", "run"]]);
    expect(before).toMatch(
      /^(# {3})?export AUTH_SECRET=\$\(openssl rand -hex 32\) POSTGRES_PASSWORD=\$\(\S+ rand -hex 16\) REDIS_PASSWORD=\$\(\S+ rand -hex 16\)[^\n]*\n$/m,
    );
  }
});

test("the commands are those of the program", () => {
  const commands: Record<string, Command> = { service: serve, migrate };
  for (const [name, { command }] of programParts) {
    const [word, ...rest] = command!;
    expect(word).toBe(commands[name]!.name);
    const workers = parseArgs(commands[name]!, rest).value("workers");
    if (workers !== undefined) expect(parseWorkers(workers)).toBeGreaterThan(1);
  }
});

test("the schema is made before the service starts, and what is waited for can be waited for", () => {
  expect(services.service!.depends_on!.migrate).toEqual({ condition: "service_completed_successfully" });
  expect(services.migrate!.restart).toMatch(/^on-failure/);
  for (const [name, { depends_on: needs = {} }] of Object.entries(services)) {
    for (const [other, { condition }] of Object.entries(needs)) {
      const isHealthy = services[other]?.healthcheck?.test !== undefined;
      expect([name, other, condition === "service_healthy" ? isHealthy : other === "migrate"]).toEqual([
        name,
        other,
        true,
      ]);
    }
  }
});

test("whatever goes on running is looked after, and what must survive is in a volume that is declared", () => {
  for (const [name, part] of Object.entries(services)) {
    if (name === "migrate") continue;
    expect([name, part.restart]).toEqual([name, "unless-stopped"]);
    expect([name, part.healthcheck?.test[0]]).toEqual([name, "CMD"]);
  }
  const mounted = Object.values(services).flatMap(({ volumes = [] }) => volumes.map((volume) => volume.split(":")[0]!));
  expect(mounted.filter((name) => !name.startsWith("./"))).toEqual(Object.keys(file.volumes));
  for (const name of mounted.filter((it) => it.startsWith("./"))) read(join("configs", name));
  expect(services.postgres!.volumes).toHaveLength(1);
});

test("it is built from a stage that is there, and PostgreSQL is given the user that the service comes as", () => {
  for (const [, { build }] of programParts) {
    expect(build!.context).toBe("..");
    expect(read("Dockerfile")).toMatch(new RegExp(`^FROM .* AS ${build!.target}$`, "m"));
  }
  const { POSTGRES_USER, POSTGRES_PASSWORD, POSTGRES_DB } = environmentOf(services.postgres!, given);
  const url = new URL(environmentOf(services.service!, given).WS__STORAGE__URL!);
  expect([url.username, url.password, url.pathname]).toEqual([POSTGRES_USER!, POSTGRES_PASSWORD!, `/${POSTGRES_DB}`]);
  expect(Object.keys(services)).toContain(url.hostname);
});
