/** Proves that a wrong configuration is told in full, and that files, environment and defaults join as promised. */
// biome-ignore-all lint/suspicious/noTemplateCurlyInString: they are what a configuration file holds.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { chmodSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ConfigError, type Fault } from "../../src/config/faults.ts";
import { type Key, keys, root, type Section } from "../../src/config/keys.ts";
import { type LoadedConfig, loadConfig } from "../../src/config/loader.ts";
import { nearest } from "../../src/config/nearest.ts";
import { printConfig } from "../../src/config/print.ts";
import { maskUrl } from "../../src/config/text.ts";
import { checkEventTypes } from "../../src/handlers/events.ts";
import { makeCertificate } from "../support/certificates.ts";

const project = join(import.meta.dir, "../..");
let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "ws-config-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

type Env = Record<string, string>;

/** Loads a YAML text as an explicitly named file. */
async function load(yaml: string, env: Env = {}): Promise<LoadedConfig> {
  const file = join(folder, `${crypto.randomUUID()}.yaml`);
  await Bun.write(file, yaml);
  return loadConfig({ file, env, cwd: folder });
}

async function faultsOf(loading: Promise<unknown>): Promise<readonly Fault[]> {
  const error = await loading.then(
    () => null,
    (reason) => reason,
  );
  expect(error).toBeInstanceOf(ConfigError);
  return (error as ConfigError).faults;
}

/** A file that sets one key, and what its section cannot do without. */
function fileWith(key: Key, value: unknown): string {
  const tree: Record<string, unknown> = {};
  let at = tree;
  for (const part of key.path.slice(0, -1)) at = (at[part] = {}) as Record<string, unknown>;
  if (key.name.startsWith("server.tls.")) Object.assign(at, { cert_file: "a.pem", key_file: "b.pem" });
  at[key.path.at(-1)!] = value;
  return JSON.stringify(tree);
}

function sectionsOf(section: Section): Section[] {
  const inner = [...section.children.values()].filter((child) => child.kind === "section");
  return [section, ...inner.flatMap((child) => sectionsOf(child as Section))];
}

const wrong: Record<Key["kind"], unknown> = {
  text: 4711,
  whole: "many",
  boolean: "perhaps",
  choice: "nonsense",
  list: "one",
  duration: 4711,
  size: "big",
  address: "nowhere",
  map: "nowhere",
  ratio: "some",
};

const wrongElement: Record<string, unknown> = {
  map: { "h:1": "h" },
  list: [4711],
  whole: 1.5,
  ratio: 1.5,
  duration: "5 minutes",
  size: "-1",
};

describe("a wrong value", () => {
  for (const key of keys) {
    test(`${key.name} is told with its value, its place and what is expected`, async () => {
      const faults = await faultsOf(load(fileWith(key, wrong[key.kind])));
      const fault = faults.find(({ path }) => path === key.name)!;
      expect(fault.value).toBe(key.secret === "whole" ? '"********"' : JSON.stringify(wrong[key.kind]));
      expect(fault.expected).toStartWith("must be ");
      expect(fault.origin).toEndWith(".yaml");
      expect(faults.filter(({ path }) => !path.startsWith("server.tls."))).toHaveLength(
        key.name.startsWith("server.tls.") ? 0 : 1,
      );
    });

    test(`${key.name} is told from the environment, too`, async () => {
      // Every text is a fitting text, and no other kind is empty; lists of text take any.
      if (key.kind === "text" || key.kind === "list") return;
      const [fault] = await faultsOf(load("", { [key.variable]: "no such thing!" }));
      expect(fault).toMatchObject({ path: key.name, origin: key.variable, value: '"no such thing!"' });
    });

    if (wrongElement[key.kind] !== undefined)
      test(`${key.name} is told where only a part or its form is wrong`, async () => {
        const [fault] = await faultsOf(load(fileWith(key, wrongElement[key.kind])));
        expect(fault!.path).toStartWith(key.name);
        expect(fault!.expected).toStartWith("must be ");
      });
  }

  test("every setting but the parts of TLS has a default that is sound", async () => {
    expect(keys.filter(({ fallback }) => fallback === undefined).map(({ name }) => name)).toEqual([
      "server.tls.cert_file",
      "server.tls.key_file",
    ]);
    const { config, notices, file } = await loadConfig({ env: {}, cwd: folder });
    expect(config.websocket.ping_period).toBe(54_000);
    expect(config.websocket.max_message_size).toBe(10 * 1024 * 1024);
    expect({ notices, file }).toEqual({ notices: [], file: null });
  });

  test("all faults come at once, each in a line of the message", async () => {
    const yaml = "websocket: { pong_wait: 60, pong_wiat: 1s }\nserver: { port: x, host: 1 }\nlog: [a]\nnothing: 1";
    const faults = await faultsOf(load(yaml, { WS__LOG__LEVEL: "loud", WS__NO: "1" }));
    expect(faults.map(({ path }) => path).toSorted()).toEqual([
      "WS__NO",
      "log",
      "log.level",
      "nothing",
      "server.host",
      "server.port",
      "websocket.pong_wait",
      "websocket.pong_wiat",
    ]);
    expect(new ConfigError(faults).message.split("\n")).toHaveLength(faults.length + 1);
  });

  test("timers that are 0 or beyond what the platform can wait for are refused", async () => {
    const faults = await faultsOf(load("websocket: { cleanup_interval: 0s, write_wait: 30d }\nlog: { retention: 0s }"));
    expect(faults.map(({ path, value }) => [path, value])).toEqual([
      ["websocket.write_wait", '"30d"'],
      ["websocket.cleanup_interval", '"0s"'],
      ["log.retention", '"0s"'],
    ]);
    expect((await faultsOf(load("log: { retention: '30' }"))).map(({ expected }) => expected)).toEqual([
      "must be a duration from 1ms to 36500d, such as 12h or 30d",
    ]);
    expect((await load("log: { retention: 365d }")).config.log.retention).toBe(365 * 86_400_000);
    const waits = await faultsOf(load("websocket: { coalesce_window: 1001ms, coalesce_from: 0 }"));
    expect(waits.map(({ path, expected }) => [path, expected])).toEqual([
      ["websocket.coalesce_window", "must be a duration from 0s to 1s, such as 25ms"],
      ["websocket.coalesce_from", expect.stringContaining("whole number")],
    ]);
    expect((await load("websocket: { coalesce_window: 1s }")).config.websocket.coalesce_window).toBe(1_000);
  });

  test("TLS without one of its variables is told once", async () => {
    const faults = await faultsOf(load("server: { tls: { cert_file: '${GONE}', key_file: 1 } }"));
    expect(faults.map(({ path }) => path)).toEqual(["server.tls.cert_file", "server.tls.key_file"]);
  });

  test("TLS needs both files", async () => {
    const [fault, ...others] = await faultsOf(load("server: { tls: { cert_file: a.pem } }"));
    expect(fault).toMatchObject({ path: "server.tls.key_file", value: null, expected: "is missing and must be text" });
    expect(others).toEqual([]);
    expect((await faultsOf(load("server: { tls: {} }")))[0]!.path).toBe("server.tls");
  });
});

describe("an unknown name", () => {
  for (const section of sectionsOf(root)) {
    const known = [...section.children.values()].at(0)!;
    test(`in ${section.name || "the file itself"} names the nearest`, async () => {
      const last = known.path.at(-1)!;
      const misspelled = `${last.slice(0, -1)}_${last.slice(-1)}`;
      const tree = section.path.toReversed().reduce<unknown>((inner, part) => ({ [part]: inner }), { [misspelled]: 1 });
      const faults = await faultsOf(load(JSON.stringify(tree)));
      expect(faults).toHaveLength(1);
      expect(faults[0]).toMatchObject({
        path: [...section.path, misspelled].join("."),
        expected: `is not a setting; the nearest is ${known.name}`,
      });
    });
  }

  test("that is near none is only said to be none", async () => {
    const faults = await faultsOf(load("foo: 1\nserver: { colour: 1 }", { WS__FOO__BAR: "1" }));
    expect(faults.map(({ path, expected }) => [path, expected])).toEqual([
      ["foo", "is not a setting"],
      ["server.colour", "is not a setting"],
      ["WS__FOO__BAR", "is not a setting"],
    ]);
  });

  test("of another section is found there", async () => {
    const [fault] = await faultsOf(load("server: { pong_wait: 60s }\n"));
    expect(fault!.expected).toEndWith("websocket.pong_wait");
  });

  test("hides its value: it may be a misspelled secret", async () => {
    const loading = load("auth: { secrte: hunter2 }", { WS__AUTH__SECRTE: "hunter2" });
    expect(JSON.stringify(await faultsOf(loading))).not.toContain("hunter2");
  });

  test("of the prototype is unknown as well", async () => {
    const faults = await faultsOf(load("__proto__: { a: 1 }\nserver: { constructor: 1 }"));
    expect(faults.map(({ path }) => path)).toEqual(["__proto__", "server.constructor"]);
  });

  test("nearest counts swapped letters once and ignores case", () => {
    expect(nearest("prot", ["pong", "port"])).toBe("port");
    expect(nearest("PORT", ["host", "port"])).toBe("port");
    expect(nearest("x", [])).toBeNull();
  });
});

describe("the environment", () => {
  test("sets every type", async () => {
    const { config, origins } = await load("", {
      WS__SERVER__PORT: "9000",
      WS__SERVER__ALLOWED_ORIGINS: "https://a.example, https://b.example",
      WS__SERVER__TRUSTED_PROXIES: "",
      WS__WEBSOCKET__PONG_WAIT: "70s",
      WS__WEBSOCKET__MAX_MESSAGE_SIZE: "1048576",
      WS__WEBSOCKET__AUTO_SUBSCRIBE: "user,calls",
      WS__RATE_LIMITS__ENABLED: "false",
      WS__RATE_LIMITS__CALL_ICE__PER_MINUTE: "7",
      WS__RATE_LIMITS__PRESENCE_UPDATE__BURST: "8",
      WS__CLUSTER__URL: "null",
      WS__CLUSTER__NODE_ID: "7",
      WS__LOG__LEVEL: "debug",
      WS__OPERATIONS__LISTEN: "[::1]:9090",
    });
    expect(config.server).toMatchObject({
      port: 9000,
      allowed_origins: ["https://a.example", "https://b.example"],
      trusted_proxies: [],
    });
    expect(config.websocket).toMatchObject({
      pong_wait: 70_000,
      max_message_size: 1_048_576,
      auto_subscribe: ["user", "calls"],
    });
    expect(config.rate_limits).toMatchObject({
      enabled: false,
      "call.ice": { per_minute: 7, burst: 150 },
      "presence.update": { per_minute: 12, burst: 8 },
    });
    expect(config.cluster).toMatchObject({ url: null, node_id: "7" });
    expect(config.operations.listen).toEqual({ host: "::1", port: 9090 });
    expect(origins.get("log.level")).toBe("WS__LOG__LEVEL");
  });

  test("has one variable for each setting", () => {
    expect(new Set(keys.map(({ variable }) => variable)).size).toBe(keys.length);
  });

  test("wins over borrowed names, and these over the file", async () => {
    const yaml = "server: { port: 1 }\nstorage: { url: 'sqlite:file.db' }";
    const borrowed = { PORT: "2", DATABASE_URL: "postgres://h/borrowed", REDIS_URL: "redis://h" };
    expect((await load(yaml)).config.server.port).toBe(1);
    const { config } = await load(yaml, borrowed);
    expect([config.server.port, config.storage.url, config.cluster.url]).toEqual([
      2,
      borrowed.DATABASE_URL,
      "redis://h",
    ]);
    const stronger = {
      ...borrowed,
      WS__SERVER__PORT: "3",
      WS__STORAGE__URL: "postgresql://h/own",
      WS__CLUSTER__URL: "",
    };
    const strongest = (await load(yaml, stronger)).config;
    expect([strongest.server.port, strongest.storage.url, strongest.cluster.url]).toEqual([
      3,
      "postgresql://h/own",
      null,
    ]);
    expect((await load(yaml, { PORT: "", DATABASE_URL: "" })).config.server.port).toBe(1);
  });

  test("repairs what the file has wrong", async () => {
    const { config } = await load("server: { port: wrong, host: '${NOWHERE}' }", {
      WS__SERVER__PORT: "9000",
      WS__SERVER__HOST: "localhost",
    });
    expect(config.server).toMatchObject({ port: 9000, host: "localhost" });
  });

  test("fills ${NAME} in, as the setting's own type", async () => {
    const yaml =
      "server: { port: '${P}', allowed_origins: '${O}', trusted_proxies: ['${IP}/8', 10.0.0.1] }\n" +
      "auth: { issuer: 'https://${H}/$${H}' }\ncluster: { node_id: 'a-${N}-b' }";
    const { config } = await load(yaml, { P: "81", O: "https://a,https://b", IP: "10.0.0.0", H: "h", N: "1" });
    expect(config.server).toMatchObject({
      port: 81,
      allowed_origins: ["https://a", "https://b"],
      trusted_proxies: ["10.0.0.0/8", "10.0.0.1"],
    });
    expect(config.auth.issuer).toBe("https://h/${H}");
    expect(config.cluster.node_id).toBe("a-1-b");
  });

  test("that lacks a ${NAME} is told the name", async () => {
    const faults = await faultsOf(load("auth: { issuer: 'x${GONE}', audience: '${EMPTY}' }", { EMPTY: "" }));
    expect(faults.map(({ path, expected }) => [path, expected])).toEqual([
      ["auth.issuer", "needs the environment variable GONE, which is not set"],
      ["auth.audience", "needs the environment variable EMPTY, which is not set"],
    ]);
  });
});

describe("the file", () => {
  test("is the named one, else WS_CONFIG's, else configs/config.yaml, else none", async () => {
    const cwd = await mkdtemp(join(folder, "lookup-"));
    const portOf = async (options: { file?: string; env?: Env }) => {
      const { config, file } = await loadConfig({ env: {}, ...options, cwd });
      return [config.server.port, file];
    };
    expect(await portOf({})).toEqual([8086, null]);
    await Bun.write(join(cwd, "configs/config.yaml"), "server: { port: 1 }");
    await Bun.write(join(cwd, "other.yaml"), "server: { port: 2 }");
    await Bun.write(join(cwd, "named.yaml"), "server: { port: 3 }");
    expect(await portOf({})).toEqual([1, "configs/config.yaml"]);
    expect(await portOf({ env: { WS_CONFIG: "other.yaml" } })).toEqual([2, "other.yaml"]);
    expect(await portOf({ file: "named.yaml", env: { WS_CONFIG: "other.yaml" } })).toEqual([3, "named.yaml"]);
  });

  test("that is named and not there is a fault, beside those of the environment", async () => {
    const faults = await faultsOf(loadConfig({ env: { WS_CONFIG: "gone.yaml", PORT: "x" }, cwd: folder }));
    expect(faults.map(({ path, expected, origin }) => [path, expected, origin])).toEqual([
      ["gone.yaml", "is not there", "WS_CONFIG"],
      ["server.port", "must be a whole number from 0 to 65535", "PORT"],
    ]);
    expect((await faultsOf(loadConfig({ file: ".", env: {}, cwd: folder })))[0]!.path).toBe(".");
  });

  test("that is no YAML, or no mapping, is a fault", async () => {
    expect((await faultsOf(load("a: [1\nb: : :")))[0]!.expected).toBe("is not YAML in line 2: bad indent");
    expect((await faultsOf(load("- a\n- b")))[0]!.expected).toBe("must be a mapping of sections");
    expect((await load("")).config.server.port).toBe(8086);
    expect((await load("server:\n# all of it is commented out\n")).config.server.port).toBe(8086);
  });

  test("for development works as it is", async () => {
    const { config, notices, file } = await loadConfig({ env: {}, cwd: project });
    expect({ notices, file }).toEqual({ notices: [], file: "configs/config.yaml" });
    expect(config.log.format).toBe("pretty");
    const { config: defaults } = await loadConfig({ env: {}, cwd: folder });
    expect({ ...config, log: { ...config.log, format: "json" } }).toEqual({ ...defaults } as typeof config);
  });

  test("for development and the one for production have every section", async () => {
    for (const name of ["config", "production"]) {
      const tree = Bun.YAML.parse(await Bun.file(join(project, `configs/${name}.yaml`)).text()) as object;
      expect(Object.keys(tree).toSorted()).toEqual([...root.children.keys()].toSorted());
    }
  });

  const productionEnv = {
    ALLOWED_ORIGINS: "https://app.example.com",
    AUTH_JWKS_URL: "https://id.example.com/jwks.json",
    AUTH_ISSUER: "https://id.example.com",
    AUTH_AUDIENCE: "chat",
    AUTH_SERVICE_SECRET: "a secret of backends, of 32 bytes",
    DATABASE_URL: "postgres://app:pass@db/chat",
    REDIS_URL: "redis://:pass@redis:6379",
  };

  test("for production works with its environment", async () => {
    const { config, notices } = await loadConfig({ file: "configs/production.yaml", env: productionEnv, cwd: project });
    expect(notices).toEqual([]);
    expect(config.auth).toMatchObject({ mode: "token", jwks_url: productionEnv.AUTH_JWKS_URL });
    expect(config.server).toMatchObject({ host: "0.0.0.0", allowed_origins: ["https://app.example.com"] });
    expect([config.storage.url, config.cluster.url]).toEqual([productionEnv.DATABASE_URL, productionEnv.REDIS_URL]);
    expect([config.log.format, config.directory.mode]).toEqual(["json", "managed"]);
  });

  test("for production names each variable that is missing", async () => {
    const faults = await faultsOf(loadConfig({ file: "configs/production.yaml", env: {}, cwd: project }));
    for (const name of Object.keys(productionEnv))
      expect(faults.filter(({ expected }) => expected.includes(` ${name},`))).toHaveLength(1);
  });
});

describe("a map of addresses", () => {
  const url = { WS__CLUSTER__URL: "redis+cluster://h", WS__STORAGE__URL: "postgres://h/d" };
  const natMap = { "10.0.0.1:6379": "127.0.0.1:7001", "[fd00::1]:6379": "[::1]:7002" };

  test("[END2] is the same from a file, from the environment, and from a file that names a variable", async () => {
    const text = Object.entries(natMap)
      .map(([from, to]) => `${from} = ${to}`)
      .join(", ");
    const file = JSON.stringify({ cluster: { nat_map: natMap } });
    const named = "cluster: { nat_map: '${MAP}' }";
    const part = "cluster: { nat_map: { '10.0.0.1:6379': '${HERE}:7001', '[fd00::1]:6379': '[::1]:7002' } }";
    for (const [yaml, env] of [
      [file, {}],
      ["", { WS__CLUSTER__NAT_MAP: text }],
      [named, { MAP: text }],
      [part, { HERE: "127.0.0.1" }],
    ] as [string, Env][]) {
      const loaded = await load(yaml, { ...url, ...env });
      expect(loaded.config.cluster.nat_map).toEqual(natMap);
      expect((await load(printConfig(loaded))).config).toEqual(loaded.config);
    }
    expect((await load("", { ...url, WS__CLUSTER__NAT_MAP: "" })).config.cluster.nat_map).toEqual({});
  });

  test.each([
    ["a:1=b:1=c:1", "cluster.nat_map"],
    ["a:1=b:1,a:1=c:1", "cluster.nat_map"],
    ["a:1=b", "cluster.nat_map.a:1"],
    ["a:1=b:0", "cluster.nat_map.a:1"],
    ["a:1=b:65536", "cluster.nat_map.a:1"],
    ["a=b:1", "cluster.nat_map.a"],
    ["redis://a:1=b:1", "cluster.nat_map.redis://a:1"],
  ])("[END2] %s is refused by name", async (text, path) => {
    const faults = await faultsOf(load("", { ...url, WS__CLUSTER__NAT_MAP: text }));
    expect(faults).toMatchObject([{ path, origin: "WS__CLUSTER__NAT_MAP" }]);
    expect(faults[0]!.expected).toStartWith("must be ");
  });
});

describe("events of the application's own", () => {
  const events = { "poll.vote": { logged: true }, recording: { logged: false } };

  test("[MSG4] are the same from a file, from the environment, and as they are printed", async () => {
    const text = "poll.vote = logged, recording = passing";
    for (const [yaml, env] of [
      [JSON.stringify({ events }), {}],
      ["events: { poll.vote: logged, recording: { logged: false } }", {}],
      ["events: '${EVENTS}'", { EVENTS: text }],
      ["", { WS__EVENTS: text }],
    ] as [string, Env][]) {
      const loaded = await load(yaml, env);
      expect(loaded.config.events).toEqual(events);
      expect((await load(printConfig(loaded))).config).toEqual(loaded.config);
    }
    expect((await load("")).config.events).toEqual({});
  });

  test.each([
    ["events: { Poll: { logged: true } }", "events.Poll"],
    ["events: { 'a b': { logged: true } }", "events.a b"],
    [`events: { ${"x".repeat(65)}: { logged: true } }`, `events.${"x".repeat(65)}`],
    ["events: { poll: true }", "events.poll"],
    ["events: { poll.vote: { logged: yes, ever: 1 } }", "events.poll.vote"],
    ["events: { poll.vote: { logged: 'true' } }", "events.poll.vote"],
    ["events: { poll.vote: {} }", "events.poll.vote"],
    ["events: { poll.vote: null }", "events.poll.vote"],
    ["events: [poll]", "events.0"],
    ["events: poll", "events"],
  ])("[MSG4] %s is refused by name", async (yaml, path) => {
    const faults = await faultsOf(load(yaml));
    expect(faults).toMatchObject([{ path }]);
    expect(faults[0]!.expected).toStartWith("must be a mapping of types");
  });

  test("[MSG4] a type of the protocol's own is none, for whoever starts the service", async () => {
    for (const type of ["message.new", "typing.start", "publish", "admin.stats", "admin.any", "member.added"]) {
      const { config } = await load(JSON.stringify({ events: { ...events, [type]: { logged: false } } }));
      expect(() => checkEventTypes(config)).toThrow(`events: ${type}: types of the protocol's own`);
    }
    expect(() => checkEventTypes({ events })).not.toThrow();
  });
});

describe("settings that must fit each other", () => {
  const secret = "s".repeat(32);
  const cluster = "cluster: { url: 'redis://h' }";
  const postgres = "storage: { url: 'postgres://h/d' }";
  const refused: [rule: string, yaml: string, path: string][] = [
    ["[CON6] ping_period is shorter than pong_wait", "websocket: { ping_period: 60s }", "websocket.ping_period"],
    [
      "a compression_threshold above compression_work_max would leave nothing to compress",
      "websocket: { compression: shared, compression_threshold: 2KiB, compression_work_max: 1KiB }",
      "websocket.compression_threshold",
    ],
    [
      "[CON6] stale_connection_timeout is at least pong_wait",
      "websocket: { stale_connection_timeout: 59s }",
      "websocket.stale_connection_timeout",
    ],
    [
      "[CON7] the client buffer holds one message",
      "websocket: { client_buffer_size: 159 }",
      "websocket.client_buffer_size",
    ],
    ["[TYP2] typing is relayed before it ends", "typing: { timeout: 3s }", "typing.relay_interval"],
    ["[CON2] trusted is for loopback", "server: { host: 0.0.0.0 }", "auth.mode"],
    ["[CON2] a name that only begins like loopback is not", "server: { host: 127.0.0.1.example.com }", "auth.mode"],
    ["[AUTH2] token needs a key", "auth: { mode: token }", "auth.mode"],
    [
      "[AUTH2] token needs one key only",
      `auth: { mode: token, algorithms: [RS256], secret: ${secret}, jwks_url: 'https://h' }`,
      "auth.mode",
    ],
    ["[AUTH2] a secret is long", "auth: { secret: short }", "auth.secret"],
    [
      "[AUTH2] a secret is for HS256",
      `auth: { mode: token, secret: ${secret}, algorithms: [RS256] }`,
      "auth.algorithms",
    ],
    ["[AUTH2] a public key is not for HS256", "auth: { mode: token, jwks_url: 'https://h' }", "auth.algorithms"],
    [
      "[AUTH2] HS256 is alone",
      `auth: { mode: token, secret: ${secret}, algorithms: [HS256, RS256] }`,
      "auth.algorithms",
    ],
    [
      "[CON1] on an address that others reach a directory is managed",
      `server: { host: 0.0.0.0 }\nauth: { mode: token, secret: ${secret} }`,
      "directory.mode",
    ],
    [
      "[AUTH2] a key server on another host has https",
      "auth: { mode: token, algorithms: [RS256], jwks_url: 'http://idp.example.com/jwks', issuer: i }",
      "auth.jwks_url",
    ],
    ["[AUTH2] a second secret is long too", "auth: { service_secret: short }", "auth.service_secret"],
    [
      "[AUTH2] users' tokens are not signed with the backends' secret",
      `auth: { mode: token, secret: ${secret}, service_secret: ${secret} }`,
      "auth.service_secret",
    ],
    [
      "[AUTH2] the backends' public key is there",
      "auth: { service_public_key_file: gone.pem }",
      "auth.service_public_key_file",
    ],
    [
      "[AUTH2] beside the backends' key users carry no roles",
      `auth: { service_secret: ${secret}, role_map: { owner: admin } }`,
      "auth.role_map",
    ],
    [
      "[AUTH2] where tokens carry no roles none are mapped",
      "auth: { roles_claim: null, role_map: { owner: admin } }",
      "auth.role_map",
    ],
    ["[AUTH2] a role is service or admin", "auth: { role_map: { owner: root } }", "auth.role_map.owner"],
    ["[AUTH2] a JWKS URL is one", "auth: { jwks_url: 'ftp://h' }", "auth.jwks_url"],
    ["[AUTH2] the public key is there", "auth: { public_key_file: gone.pem }", "auth.public_key_file"],
    ["[END3] a collector is reached by HTTP", "traces: { endpoint: '127.0.0.1:4318' }", "traces.endpoint"],
    ["[END3] it has a path", "traces: { endpoint: 'http://127.0.0.1:4318' }", "traces.endpoint"],
    ["[END3] its password is no part of its URL", "traces: { endpoint: 'https://a:b@h/v1/traces' }", "traces.endpoint"],
    ["[END3] its headers have names and values", "traces: { headers: 'authorization' }", "traces.headers"],
    ["proxies are addresses or blocks", "server: { trusted_proxies: [10.0.0.0/33] }", "server.trusted_proxies"],
    ["storage is SQLite or PostgreSQL", "storage: { url: 'mysql://h' }", "storage.url"],
    ["[LOG3] nodes share one log", cluster, "storage.url"],
    ["the cluster is Redis", `cluster: { url: 'http://h' }\n${postgres}`, "cluster.url"],
    [
      "[PUB3] views of the directory are PostgreSQL's",
      "directory: { mode: managed, users: app.users }",
      "directory.users",
    ],
    [
      "[PUB3] nothing is made in the application's tables",
      `directory: { members: app.members }\n${postgres}`,
      "directory.members",
    ],
    [
      "[LOG9] a view of conversations is PostgreSQL's",
      "directory: { conversations: app.conversations }",
      "directory.conversations",
    ],
    ["[PUB3] views have names", `directory: { mode: managed, users: 'app.users; --' }\n${postgres}`, "directory.users"],
    [
      "[END2] one server is named as it is reached",
      `cluster: { url: 'redis://h', nat_map: { 'a:1': 'b:1' } }\n${postgres}`,
      "cluster.nat_map",
    ],
    ["[END2] no Redis announces anything", "cluster: { nat_map: { 'a:1': 'b:1' } }", "cluster.nat_map"],
    [
      "[CALL5] of a device in its grace other nodes do not know that it has vanished",
      "storage: { url: postgres://h/d }\ncluster: { url: redis://h }\ncalls: { reconnect_timeout: 10s }",
      "calls.reconnect_timeout",
    ],
    ["[PRE1] one late heartbeat is no death", "cluster: { heartbeat: 8s }", "cluster.dead_after"],
    [
      "[END3] the internal listener is loopback or has a token",
      "operations: { listen: '0.0.0.0:9090' }",
      "operations.listen",
    ],
    [
      "[END3] its token cannot be guessed, wherever it listens",
      "operations: { listen: '127.0.0.1:9090', token: fifteen-bytes-0 }",
      "operations.token",
    ],
  ];
  for (const [rule, yaml, path] of refused)
    test(`${rule}: else refused`, async () => {
      expect((await faultsOf(load(yaml))).map((fault) => fault.path)).toEqual([path]);
    });

  test("[CON1] an origin that no page can come from is refused with what to write", async () => {
    const written: Record<string, string> = {
      "https://app.example.com/": "https://app.example.com",
      "https://app.example.com/chat": "https://app.example.com",
      "https://App.Example.com": "https://app.example.com",
      "HTTPS://app.example.com": "https://app.example.com",
      "https://app.example.com:443": "https://app.example.com",
      "http://app.example.com:80": "http://app.example.com",
      "https://*.example.com/": "https://*.example.com",
      "https://*.Example.com:443": "https://*.example.com",
      "https://müller.example": "https://xn--mller-kva.example",
      "app.example.com": "https://app.example.com",
      "app.example.com:8443": "https://app.example.com:8443",
      "https://a:b@app.example.com": "https://app.example.com",
      "https://app.*.com": "https://*.example.com",
      "*.example.com": "https://*.example.com",
      "https://app.example.com?a": "https://app.example.com",
      "https://": "https://app.example.com",
      "app://Main": "app://main",
    };
    for (const [entry, right] of Object.entries(written)) {
      const [fault] = await faultsOf(
        load(`server: { allowed_origins: ['https://fine.example', ${JSON.stringify(entry)}] }`),
      );
      expect([fault!.path, fault!.expected]).toEqual([
        "server.allowed_origins",
        expect.stringMatching(/ write \S+\)$/),
      ]);
      expect(fault!.expected.match(/ write (\S+)\)$/)![1]).toBe(right);
    }
    for (const entry of ["https://*.com", "https://*.de:8443"])
      expect((await faultsOf(load(`server: { allowed_origins: ['${entry}'] }`)))[0]!.path).toBe(
        "server.allowed_origins",
      );
    const right = ["*", "null", "http://localhost:3000", "https://*.example.com", "https://*.a.example.com:8443"];
    right.push("capacitor://localhost", "http://*.localhost:3000", "chrome-extension://abcdef");
    for (const entry of right) await load(`server: { allowed_origins: ['${entry}'] }`);
  });

  test("[END2] [LOG1] a log in memory alone is said to be gone at the end", async () => {
    expect((await load('storage: { url: "sqlite::memory:" }')).notices).toEqual([
      "storage.url names no file: what is acknowledged is gone when this process ends",
    ]);
  });

  test("[AUTH2] what can be meant and mostly is not is told: a key server for anybody, tokens without roles", async () => {
    const jwks = "mode: token, algorithms: [RS256], jwks_url: 'https://h'";
    const noticesFor = async (auth: string) => (await load(`auth: { ${auth} }`)).notices;
    expect(await noticesFor(jwks)).toEqual([
      expect.stringContaining("auth.issuer and auth.audience"),
      expect.stringContaining("auth.service_secret"),
    ]);
    expect(await noticesFor(`${jwks}, issuer: i, service_secret: ${secret}`)).toEqual([]);
    expect(await noticesFor(`${jwks}, audience: a, role_map: { chat-admin: admin }`)).toEqual([]);
    expect(await noticesFor(`mode: token, secret: ${secret}`)).toEqual([]);
    // A key server beside the service needs no certificate.
    await load("auth: { mode: token, algorithms: [RS256], jwks_url: 'http://127.0.0.1:9/jwks', issuer: i }");
  });

  test("[CON2] and do: a gateway, another loopback, a token", async () => {
    expect((await load("server: { host: 0.0.0.0 }\nauth: { behind_gateway: true }")).config.auth.mode).toBe("trusted");
    for (const host of ["localhost", "127.8.9.1", "::1"]) await load(`server: { host: '${host}' }`);
    const token = `server: { host: '::' }\nauth: { mode: token, secret: ${secret} }`;
    await load(`${token}\ndirectory: { mode: managed }`);
    await load(`${token}\ndirectory: { open_to_all: true }`);
  });

  test("and do: the boundaries", async () => {
    await load("websocket: { ping_period: 59s, stale_connection_timeout: 60s, client_buffer_size: 160 }");
    await load("server: { trusted_proxies: [10.0.0.1, 10.0.0.0/8, 'fd00::/8', '::1'] }");
    for (const url of ["redis://h:1", "rediss://h:1", "redis+sentinel://h:1/main", "redis+cluster://h:1"])
      await load(`${postgres}\ncluster: { url: '${url}' }`);
    for (const url of ["redis+sentinel://h:1/main", "redis+cluster://h:1"])
      await load(`${postgres}\ncluster: { url: '${url}', nat_map: { '[fd00::1]:65535': 'b.example:1' } }`);
    await load("operations: { listen: '0.0.0.0:9090', token: 'sixteen bytes ok' }");
    await load(`directory: { mode: managed, users: app.users, members: app.members }\n${postgres}`);
  });

  test("TLS files and public keys are looked for from the working directory", async () => {
    expect(
      (await faultsOf(load("server: { tls: { cert_file: a.pem, key_file: b.pem } }"))).map(({ path }) => path),
    ).toEqual(["server.tls.cert_file", "server.tls.key_file"]);
    makeCertificate(folder, "there.test");
    const { config } = await load(
      "server: { tls: { cert_file: cert.pem, key_file: ./key.pem } }\n" +
        "auth: { mode: token, algorithms: [EdDSA], public_key_file: cert.pem }",
    );
    expect(config.server.tls).toEqual({ cert_file: "cert.pem", key_file: "./key.pem" });
  });

  test("are not judged by a value that is wrong already", async () => {
    const faults = await faultsOf(load("websocket: { pong_wait: 10, ping_period: 20m, stale_connection_timeout: 1s }"));
    expect(faults.map(({ path }) => path)).toEqual(["websocket.pong_wait"]);
  });
});

describe("secrets in files", () => {
  const secret = `hunter2${"x".repeat(32)}`;
  const written = async (text: string) => {
    const file = join(folder, crypto.randomUUID());
    await Bun.write(file, text);
    return file;
  };

  test("[OPS6] that others of the machine may read a secret's file is told, and it is taken all the same", async () => {
    const file = await written(secret);
    const noticesAt = async (mode: number) => {
      chmodSync(file, mode);
      const { config, notices } = await load(`auth: { mode: token, secret_file: ${file} }`);
      expect(config.auth.secret).toBe(secret);
      return notices;
    };
    expect(await noticesAt(0o644)).toEqual([expect.stringMatching(/others .* auth\.secret_file .*chmod 600/)]);
    for (const mode of [0o600, 0o400, 0o640]) expect(await noticesAt(mode)).toEqual([]);
  });

  test("[OPS6] every secret but the addresses of a key server and a collector has one, whose line is the setting", async () => {
    const holding = keys.filter(({ holds }) => holds !== null);
    expect(holding.map(({ name }) => name)).toEqual([
      "auth.secret_file",
      "auth.service_secret_file",
      "storage.url_file",
      "cluster.url_file",
      "operations.token_file",
      "traces.headers_file",
    ]);
    const secrets = keys.filter((key) => key.secret !== "no").map(({ name }) => name);
    expect(secrets.filter((name) => !holding.some(({ holds }) => holds === name))).toEqual([
      "auth.jwks_url",
      "traces.endpoint",
    ]);
    const files = {
      WS__AUTH__SECRET_FILE: await written(`  ${secret}\n`),
      WS__AUTH__SERVICE_SECRET_FILE: await written(`${secret}2\r\n`),
      WS__STORAGE__URL_FILE: await written("postgres://app:hunter2@db/chat\n"),
      WS__CLUSTER__URL_FILE: await written("redis://:hunter2@redis"),
      WS__OPERATIONS__TOKEN_FILE: await written("\thunter2-and-more-of-it \n\n"),
      WS__TRACES__HEADERS_FILE: await written("authorization=Bearer hunter2, x-tenant=a=b\n"),
    };
    const loaded = await load("auth: { mode: token }", files);
    const { auth, storage, cluster, operations, traces } = loaded.config;
    expect([auth.secret, auth.service_secret]).toEqual([secret, `${secret}2`]);
    expect([storage.url, cluster.url]).toEqual(["postgres://app:hunter2@db/chat", "redis://:hunter2@redis"]);
    expect([operations.token, traces.headers]).toEqual([
      "hunter2-and-more-of-it",
      "authorization=Bearer hunter2, x-tenant=a=b",
    ]);
    const printed = printConfig(loaded);
    expect(printed).not.toContain("hunter2");
    expect(printed).toContain(`  secret: "********"  # ${files.WS__AUTH__SECRET_FILE}, by auth.secret_file\n`);
  });

  test("[OPS6] relative names start in the working directory, and ${NAME} is replaced in them", async () => {
    await Bun.write(join(folder, "credentials/secret"), secret);
    const yaml = "auth: { mode: token, secret_file: '${CREDENTIALS_DIRECTORY}/secret' }";
    expect((await load(yaml, { CREDENTIALS_DIRECTORY: "credentials" })).config.auth.secret).toBe(secret);
  });

  test("[OPS6] a secret and its file are one setting: both in one place are a fault, the stronger place counts", async () => {
    const file = await written(secret);
    const other = `other${"x".repeat(32)}`;
    const [fault, ...others] = await faultsOf(load(`auth: { secret: ${other}, secret_file: ${file} }`));
    expect(others).toEqual([]);
    expect(fault!.path).toBe("auth.secret_file");
    expect(fault!.expected).toBe("must be null where auth.secret is set too");
    const secretOf = async (yaml: string, env: Env) => (await load(yaml, env)).config.auth.secret;
    expect(await secretOf(`auth: { secret_file: ${file} }`, { WS__AUTH__SECRET: other })).toBe(other);
    expect(await secretOf(`auth: { secret: ${other} }`, { WS__AUTH__SECRET_FILE: file })).toBe(secret);
    // A compose file passes an empty variable for one that nobody has set.
    expect(await secretOf(`auth: { secret: ${other} }`, { WS__AUTH__SECRET_FILE: "" })).toBe(other);
    expect(await secretOf(`auth: { secret_file: ${file} }`, { WS__AUTH__SECRET: "" })).toBe(secret);
    const url = await written("postgres://h/d");
    const env = { DATABASE_URL: "postgres://other/d", WS__STORAGE__URL_FILE: url };
    expect((await load("", env)).config.storage.url).toBe("postgres://h/d");
  });

  test("[OPS6] what cannot be used is told by the setting that names the file, and never shown", async () => {
    for (const [text, expected] of [
      [null, "must be a file that is there"],
      ["", "must not be an empty file"],
      [" \n", "must not be an empty file"],
      [`${secret}\n${secret}`, "must hold one line"],
      ["hunter2".repeat(10_000), "must be at most 64 KiB"],
    ] as const) {
      const file = text === null ? join(folder, "nowhere") : await written(text);
      const faults = await faultsOf(load(`auth: { mode: token, secret_file: '${file}' }`));
      expect(faults.map(({ path, expected }) => [path, expected])).toEqual([["auth.secret_file", expected]]);
      expect(new ConfigError(faults).message).not.toContain("hunter2");
    }
    expect((await faultsOf(load(`auth: { secret_file: '${folder}' }`)))[0]!.expected).toStartWith("cannot be read (E");
    // A name that is not known keeps the secret unknown, which no other fault is made of.
    const nameless = await faultsOf(load("auth: { mode: token, secret_file: '${NOWHERE}/secret' }"));
    expect(nameless.map(({ path }) => path)).toEqual(["auth.secret_file"]);
    // Its line is judged as the setting.
    const [short] = await faultsOf(load(`auth: { secret_file: '${await written("hunter2")}' }`));
    expect(short).toMatchObject({
      path: "auth.secret",
      value: '"********"',
      expected: "must be at least 32 bytes long",
    });
  });

  test("[OPS6] [END2] who needs no secrets leaves their files alone, and takes no rule for broken", async () => {
    const file = join(folder, `${crypto.randomUUID()}.yaml`);
    await Bun.write(
      file,
      "server: { port: 1 }\nauth: { mode: token, secret_file: nowhere }\nstorage: { url_file: nowhere }",
    );
    const { config } = await loadConfig({ file, env: {}, cwd: folder, checksFiles: false });
    expect(config.server.port).toBe(1);
  });
});

describe("for a command that uses some sections alone", () => {
  test("[OPS6] secrets, certificates and variables of the others need not be there, and no rule is broken by that", async () => {
    const file = join(folder, `${crypto.randomUUID()}.yaml`);
    await Bun.write(
      file,
      `server:
  host: 0.0.0.0
  tls: { cert_file: "\${CREDENTIALS_DIRECTORY}/cert", key_file: "\${CREDENTIALS_DIRECTORY}/key" }
auth: { mode: token, secret_file: "\${CREDENTIALS_DIRECTORY}/secret", issuer: "\${ISSUER}" }
directory: { mode: managed }
storage: { url: postgres://h/d, tls: { ca_file: "\${CREDENTIALS_DIRECTORY}/ca" } }
cluster: { url_file: "\${CREDENTIALS_DIRECTORY}/redis-url" }
operations: { listen: "0.0.0.0:9090", token_file: nowhere }`,
    );
    const used = (uses: string[], env: Env, checksFiles = true) =>
      loadConfig({ file, env, cwd: folder, uses, checksFiles });
    const { config } = await used(["server"], {}, false);
    // That there is a certificate is known all the same.
    expect([config.server.host, config.server.tls]).toEqual(["0.0.0.0", expect.anything()]);
    const secret = "s".repeat(32);
    await Bun.write(join(folder, "given/secret"), secret);
    const given = { CREDENTIALS_DIRECTORY: "given", ISSUER: "https://login.example" };
    expect((await used(["auth"], given)).config.auth.secret).toBe(secret);
    const pathsOf = async (uses: string[], env: Env) => (await faultsOf(used(uses, env))).map(({ path }) => path);
    expect(await pathsOf(["auth"], {})).toEqual(["auth.secret_file", "auth.issuer"]);
    expect(await pathsOf(["storage"], {})).toEqual(["storage.tls.ca_file"]);
    expect(await pathsOf(["storage"], given)).toEqual(["storage.tls.ca_file"]);
    const [fault] = await faultsOf(used(["auth"], { ISSUER: "https://login.example" }));
    expect(fault!.expected).toBe(
      "needs the environment variable CREDENTIALS_DIRECTORY, which is not set: systemd sets it for a unit with LoadCredential=, such as one of systemd-run",
    );
  });
});

describe("what is told of a sound configuration", () => {
  test("socket buffer sizes are noticed wherever they are set", async () => {
    const { notices } = await load("websocket: { read_buffer_size: 1024 }", {
      WS__WEBSOCKET__WRITE_BUFFER_SIZE: "4KiB",
    });
    expect(notices).toHaveLength(2);
    expect(notices[0]).toContain("websocket.read_buffer_size");
    expect(notices[1]).toContain("WS__WEBSOCKET__WRITE_BUFFER_SIZE");
    expect(notices[1]).toContain("has no effect here: Bun sizes its socket buffers itself");
  });

  test("what is printed loads as the same configuration", async () => {
    makeCertificate(folder, "printed.test");
    const yaml =
      "server: { tls: { cert_file: cert.pem, key_file: key.pem }, drain_timeout: 90s }\n" +
      "cluster: { node_id: '7' }\nwebsocket: { max_message_size: 1000 }\nlog: { retention: 36h }\n" +
      "auth: { issuer: 'a: $${b} # c', audience: 'null' }\noperations: { listen: '[::1]:9090' }";
    const loaded = await load(yaml, { WS__TYPING__TIMEOUT: "3500ms" });
    const printed = printConfig(loaded);
    expect(printed).toContain("  timeout: 3500ms  # WS__TYPING__TIMEOUT\n");
    expect(printed).toContain("  retention: 36h  # ");
    expect(printed).toContain('  listen: "[::1]:9090"  # ');
    expect((await load(printed)).config).toEqual(loaded.config);
  });

  test("secrets are masked", async () => {
    const env = {
      WS__AUTH__MODE: "token",
      WS__AUTH__SECRET: `hunter2${"x".repeat(32)}`,
      WS__OPERATIONS__TOKEN: "hunter2 and more of it",
      DATABASE_URL: "postgres://app:hunter2@db/chat",
      REDIS_URL: "redis://:hunter2@redis",
      WS__TRACES__ENDPOINT: "https://collector/v1/traces?key=hunter2",
    };
    const printed = printConfig(await load("", env));
    expect(printed).not.toContain("hunter2");
    expect(printed).toContain("postgres://app:********@db/chat");
    const faults = await faultsOf(
      load("", {
        ...env,
        DATABASE_URL: "mysql://app:hunter2@db",
        REDIS_URL: "redis://hunter2@redis/x",
        WS__AUTH__SECRET: "hunter2",
        WS__TRACES__ENDPOINT: "https://me:hunter2@collector/v1/traces",
      }),
    );
    expect(faults).toHaveLength(4);
    expect(new ConfigError(faults).message).not.toContain("hunter2");
  });

  test("URLs are masked whatever their passwords hold", () => {
    expect(maskUrl("postgres://u:p@s/s:w@h:5432/d")).toBe("postgres://u:********@h:5432/d");
    expect(maskUrl("redis://:p@h")).toBe("redis://:********@h");
    expect(maskUrl("postgres://h/d?password=p&sslmode=require")).toBe(
      "postgres://h/d?password=********&sslmode=require",
    );
    expect(maskUrl("postgres:u:p@h")).toBe("********");
    expect(maskUrl("postgres://u@h")).toBe("postgres://u@h");
    for (const scheme of ["redis", "rediss", "redis+cluster", "https"])
      expect(maskUrl(`${scheme}://p@h/x`)).toBe(`${scheme}://********@h/x`);
    expect(maskUrl("sqlite:data/x.db")).toBe("sqlite:data/x.db");
  });
});
