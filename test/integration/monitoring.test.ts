/** Holds the dashboard and the alerts to the figures that a node really gives, and the alerts to Prometheus itself [END3]. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Client } from "../support/client.ts";
import { findPromtool } from "../support/needs.ts";
import { projectFolder } from "../support/program.ts";
import { type Service, startService } from "../support/service.ts";
import { eventually } from "../support/until.ts";

setDefaultTimeout(60_000);

const read = (file: string) => readFileSync(join(projectFolder, file), "utf8");
const rules = (Bun.YAML.parse(read("configs/alerts.yaml")) as { groups: { rules: Rule[] }[] }).groups.flatMap(
  (it) => it.rules,
);
interface Rule {
  alert: string;
  expr: string;
  labels: { severity: string };
  annotations: { summary: string; action: string };
}
const dashboard = JSON.parse(read("configs/grafana.json"));
const shown: string[] = dashboard.panels.flatMap(({ targets = [] }: { targets?: { expr: string }[] }) =>
  targets.map(({ expr }) => expr),
);

let service: Service;
let url: string;
beforeAll(async () => {
  service = await startService({ settings: { OPERATIONS__LISTEN: "127.0.0.1:0" } });
  url = String((await service.logged(({ msg }) => msg === "metrics and console")).url);
});
afterAll(() => service?.stop());

const text = async () => (await fetch(`${url}/metrics`)).text();
/** The value of one line; undefined where it is not there. */
const valueIn = (metrics: string, line: string) => {
  const found = metrics.split("\n").find((it) => it.startsWith(`${line} `));
  return found === undefined ? undefined : Number(found.slice(line.length + 1));
};

/** Every series that a node gives, whether it has a value now or not. */
async function series(): Promise<Set<string>> {
  const types = [...(await text()).matchAll(/^# TYPE (\S+) (\S+)$/gm)];
  return new Set(
    types.flatMap(([, name, type]) =>
      type === "histogram" ? ["_bucket", "_sum", "_count"].map((end) => name + end) : [name!],
    ),
  );
}

test("[END3] every figure that the dashboard shows or an alert looks at is one that a node gives", async () => {
  const given = await series();
  const named = (expr: string) => expr.match(/\b(?:ws|process)_[a-z_]+\b/g) ?? [];
  expect(rules.length).toBeGreaterThan(10);
  expect(shown.length).toBeGreaterThan(40);
  for (const expr of [...shown, ...rules.map((it) => it.expr)])
    expect([expr, named(expr).filter((name) => !given.has(name))]).toEqual([expr, []]);
  // Nothing is measured that nobody sees.
  const looked = new Set([...shown, ...rules.map((it) => it.expr)].flatMap(named));
  expect(
    ["ws_up", "ws_request_seconds_bucket", "ws_delivery_seconds_bucket", "ws_bytes_out_total"].filter(
      (name) => !looked.has(name),
    ),
  ).toEqual([]);
});

test("[END3] Prometheus takes the alerts, and the expressions of the dashboard", () => {
  const promtool = findPromtool();
  const check = (rulesText: string) =>
    Bun.spawnSync([promtool, "check", "rules", "/dev/stdin"], { stdin: Buffer.from(rulesText) });
  const alerts = check(read("configs/alerts.yaml"));
  expect([alerts.exitCode, alerts.stderr.toString()]).toEqual([0, ""]);
  const filled = shown.map((expr) =>
    expr.replaceAll("$__rate_interval", "5m").replaceAll("$job", "ws-service").replaceAll("$instance", ".*"),
  );
  const records = filled.map((expr, at) => ({ record: `panel:${at}`, expr }));
  const panels = check(JSON.stringify({ groups: [{ name: "panels", rules: records }] }));
  expect([panels.exitCode, panels.stderr.toString()]).toEqual([0, ""]);
  expect(check(read("configs/alerts.yaml").replace("== 0", "= 0")).exitCode).not.toBe(0);
});

/** Has Prometheus judge a rule of the file by series of one value a minute. @returns whether it fires at the end of half an hour */
function fires(alertname: string, series: Record<string, string>): boolean {
  const promtool = findPromtool();
  const folder = mkdtempSync(join(tmpdir(), "ws-alerts-"));
  try {
    cpSync(join(projectFolder, "configs/alerts.yaml"), join(folder, "alerts.yaml"));
    const input_series = Object.entries(series).map(([name, values]) => ({ series: name, values }));
    // None is expected: where it fires that is not so.
    const alert_rule_test = [{ eval_time: "30m", alertname, exp_alerts: [] }];
    const tests = [{ interval: "1m", input_series, alert_rule_test }];
    writeFileSync(join(folder, "test.yaml"), JSON.stringify({ rule_files: ["alerts.yaml"], tests }));
    const { exitCode, stdout, stderr } = Bun.spawnSync([promtool, "test", "rules", join(folder, "test.yaml")]);
    const said = `${stdout}${stderr}`;
    if (exitCode !== 0 && !said.includes(`alertname: ${alertname}`)) throw new Error(said);
    return exitCode !== 0;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

test("[END3] alerts tell of what they say they tell of, and of nothing less", () => {
  const of = (closesEachMinute: number) => ({
    'ws_connections{instance="a"}': "1000x40",
    'ws_connections{instance="b"}': "1000x40",
    'ws_backpressure_closes_total{instance="a"}': `0+${closesEachMinute}x40`,
    'ws_backpressure_closes_total{instance="b"}': "0x40",
  });
  // One client in ten within ten minutes, and one in two hundred.
  expect([fires("WsSlowClients", of(20)), fires("WsSlowClients", of(1))]).toEqual([true, false]);
  const losses = (values: string) => ({ 'ws_log_losses{instance="a"}': values });
  expect([fires("WsLogWentBack", losses("1x25 2x20")), fires("WsLogWentBack", losses("1x40"))]).toEqual([true, false]);
  const held = (values: string) => ({ 'ws_log_held_seconds{instance="a"}': values });
  expect([fires("WsCursorsHeld", held("20x40")), fires("WsCursorsHeld", held("10x40"))]).toEqual([true, false]);
});

test("[END3] every alert says what it means, what to do, and whom to wake", () => {
  for (const { alert, labels, annotations } of rules) {
    expect([alert, ["page", "ticket"].includes(labels.severity)]).toEqual([alert, true]);
    expect([alert, annotations.summary.length > 10, annotations.action.length > 20]).toEqual([alert, true, true]);
  }
});

test("[END3] what is asked, delivered, refused and up is counted", async () => {
  const [anna, ben] = await Promise.all(
    ["anna", "ben"].map((user_id) => Client.connect(service.url, { query: { user_id } })),
  );
  for (const client of [anna!, ben!]) await client.ask("subscribe", { topics: ["conversation:c1"] });
  const before = await text();
  await anna!.ask("message.send", { conversation_id: "c1", client_message_id: "m1", content: "Hello!" });
  await ben!.next("message.new");
  const after = await eventually(text, (it) => valueIn(it, "ws_delivery_seconds_count") === 1);
  const grown = (line: string) => (valueIn(after, line) ?? 0) - (valueIn(before, line) ?? 0);
  expect(grown('ws_request_seconds_count{type="message.send"}')).toBe(1);
  expect(grown("ws_messages_out_total")).toBeGreaterThanOrEqual(2);
  expect(grown("ws_bytes_out_total")).toBeGreaterThan(400);
  expect([
    valueIn(after, 'ws_up{part="storage"}'),
    valueIn(after, "ws_ready"),
    valueIn(after, "ws_draining"),
    valueIn(after, "ws_erasures"),
  ]).toEqual([1, 1, 0, 0]);
  await fetch(service.url.replace("ws:", "http:"), {
    headers: { upgrade: "websocket", connection: "upgrade", "sec-websocket-key": "x", "sec-websocket-version": "13" },
  });
  await eventually(text, (it) => valueIn(it, 'ws_connections_refused_total{status="401"}') === 1);
  await anna!.close();
  await ben!.close();
});
