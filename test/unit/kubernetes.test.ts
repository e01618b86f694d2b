/** Holds configs/kubernetes and the chart to Kubernetes' own schemas, to each other and to the program [OPS9]. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Registry } from "prom-client";
import * as v from "valibot";
import { parseAllDocuments } from "yaml";
import { loadConfig } from "../../src/config/loader.ts";
import { configSchema } from "../../src/config/schema.ts";
import { parseDuration, size } from "../../src/config/values.ts";
import { createStatMetrics } from "../../src/telemetry/stat-metrics.ts";
import { imageEnvironment } from "../support/dockerfile.ts";
import { projectFolder } from "../support/program.ts";

const chart = "configs/helm";
const kept = ["ws-service.yaml", "extras.yaml"];
const read = (file: string) => readFileSync(join(projectFolder, file), "utf8");

interface Manifest {
  apiVersion: string;
  kind: string;
  metadata: { name: string; labels: Record<string, string>; annotations?: Record<string, string> };
  spec?: any;
  data?: Record<string, string>;
}

const manifestsIn = (text: string) => parseAllDocuments(text).flatMap((it) => (it.toJS() ?? []) as Manifest | []);
const manifests = kept.flatMap((file) => manifestsIn(read(`configs/kubernetes/${file}`)));
const one = (kind: string, name = "ws-service") =>
  manifests.find((it) => it.kind === kind && it.metadata.name === name)!;

/** @throws what the schema of its kind finds wrong in it */
async function validate(manifest: Manifest): Promise<void> {
  const { apiVersion, kind } = manifest;
  const kinds = (await import(`kubernetes-models/${apiVersion}/${kind}`)) as Record<
    string,
    new (
      of: object,
    ) => { validate(): void }
  >;
  new kinds[kind]!(manifest).validate();
}

/** Not of Kubernetes itself. */
const isForeign = ({ apiVersion }: Manifest) => apiVersion === "monitoring.coreos.com/v1";

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "ws-chart-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

test("[OPS9] every manifest is what the schema of its kind takes", async () => {
  expect(manifests.map(({ kind }) => kind).sort()).toEqual(
    [
      ...["ConfigMap", "ConfigMap", "Deployment", "HorizontalPodAutoscaler", "Ingress", "Job"],
      ...["NetworkPolicy", "PodDisruptionBudget", "Service", "ServiceMonitor"],
    ].sort(),
  );
  for (const manifest of manifests.filter((it) => !isForeign(it))) await validate(manifest);
  const broken = structuredClone(one("Deployment"));
  broken.spec.template.spec.containers[0].livenessProbe.periodSeconds = "10s";
  expect(validate(broken)).rejects.toThrow("periodSeconds must be integer");
});

test("[OPS9] the manifests are those of the chart as it is", () => {
  const digest = new Bun.CryptoHasher("sha256");
  for (const file of [...new Bun.Glob("**/*").scanSync({ cwd: join(projectFolder, chart) })].sort())
    digest.update(`${file}\n${read(`${chart}/${file}`)}`);
  const expected = digest.digest("hex");
  // `bun build.ts manifests` renders them anew.
  for (const file of kept)
    expect([file, read(`configs/kubernetes/${file}`).split("\n")[0]]).toEqual([
      file,
      expect.stringContaining(expected),
    ]);
});

const helm = Bun.which("helm");
// Helm is in no registry that every machine has: where it is missing, the digest above says that what it rendered is kept.
test.skipIf(helm === null)(
  "[OPS9] the chart renders, whatever of it is turned on, and says what is wrong with it",
  async () => {
    const rendered = (...settings: string[]) => {
      const words = [
        "template",
        "ws-service",
        chart,
        "--kube-version",
        "1.31.0",
        ...settings.flatMap((it) => ["--set", it]),
      ];
      const { stdout, stderr, exitCode } = Bun.spawnSync([helm!, ...words], { cwd: projectFolder });
      expect([exitCode, stderr.toString()]).toEqual([0, ""]);
      return manifestsIn(stdout.toString());
    };
    expect(Bun.spawnSync([helm!, "lint", "--strict", chart], { cwd: projectFolder }).exitCode).toBe(0);
    const others = rendered(
      "autoscaling.enabled=true",
      "image.tag=9",
      "imagePullSecrets[0].name=pull",
      "nodeSelector.disk=ssd",
    );
    for (const manifest of others.filter((it) => !isForeign(it))) await validate(manifest);
    const { spec } = others.find(({ kind }) => kind === "Deployment")!;
    expect([spec.replicas, spec.template.spec.containers[0].image]).toEqual([
      undefined,
      "ghcr.io/ws-service/ws-service:9",
    ]);
    const plain = rendered();
    expect(plain).toEqual(manifestsIn(read("configs/kubernetes/ws-service.yaml")));
  },
);

test("[OPS9] the configuration is one that the service starts with, its secrets in files", async () => {
  const { containers, volumes } = one("Deployment").spec.template.spec;
  const mounts = new Map<string, string>(containers[0].volumeMounts.map((it: any) => [it.name, it.mountPath]));
  const secrets = {
    "auth-secret": "x".repeat(64),
    "operations-token": "y".repeat(32),
    "database-url": "postgres://ws@db/ws",
    "redis-url": "redis://redis",
  };
  for (const [name, text] of Object.entries(secrets)) writeFileSync(join(folder, name), text, { mode: 0o600 });
  const text = one("ConfigMap").data!["config.yaml"]!;
  expect(one("ConfigMap", "ws-service-migrate").data).toEqual({ "config.yaml": text });
  writeFileSync(join(folder, "config.yaml"), text.replaceAll(mounts.get("secrets")!, folder));
  // The environment of the image is stronger than any file.
  const env = { ...imageEnvironment("runtime"), WS_CONFIG: join(folder, "config.yaml") };
  const { config, notices } = await loadConfig({ env, cwd: folder });
  expect([config.storage.url, config.cluster.url, config.auth.secret]).toEqual([
    "postgres://ws@db/ws",
    "redis://redis",
    "x".repeat(64),
  ]);
  expect(notices).toEqual([]);
  expect(containers[0].args).toEqual(["serve", "--config", `${mounts.get("configuration")}/config.yaml`]);
  expect(volumes.map((it: any) => it.secret?.secretName ?? it.configMap.name)).toEqual(["ws-service", "ws-service"]);
  const ports = Object.fromEntries(containers[0].ports.map((it: any) => [it.name, it.containerPort]));
  expect(ports).toEqual({ ws: config.server.port, operations: Number(config.operations.listen!.port) });
});

test("[CON2] what sockets without a token can make a pod hold is half of its memory at most", async () => {
  const { limits } = one("Deployment").spec.template.spec.containers[0].resources;
  const { auth, websocket } = Bun.YAML.parse(one("ConfigMap").data!["config.yaml"]!) as Record<string, object>;
  const config = v.parse(configSchema, { auth, websocket });
  const held = config.auth.max_anonymous * config.websocket.max_message_size;
  expect(held).toBeLessThanOrEqual(v.parse(size, `${limits.memory}B`) / 2);
});

test("[DRN] a pod has the time that draining takes, and serves on until load balancers know", () => {
  const { containers, terminationGracePeriodSeconds } = one("Deployment").spec.template.spec;
  const { seconds } = containers[0].lifecycle.preStop.sleep;
  const { server } = Bun.YAML.parse(one("ConfigMap").data!["config.yaml"]!) as { server: { drain_timeout: string } };
  expect(terminationGracePeriodSeconds).toBeGreaterThanOrEqual(
    seconds + parseDuration(server.drain_timeout)! / 1_000 + 5,
  );
  expect(["startupProbe", "livenessProbe", "readinessProbe"].map((name) => containers[0][name].httpGet.path)).toEqual([
    "/live",
    "/live",
    "/ready",
  ]);
});

/** Names of the metrics that show how many there are of something. */
async function shownMetrics(): Promise<string[]> {
  const registry = new Registry();
  createStatMetrics([registry, new Registry()]);
  return (await registry.getMetricsAsJSON()).map(({ name }) => name);
}

test("[OPS9] the service, the budget and the scrape find the nodes, and not the job that migrates", async () => {
  const of = (labels: Record<string, string>, wanted: Record<string, string>) =>
    Object.entries(wanted).every(([name, value]) => labels[name] === value);
  const nodes = one("Deployment").spec.template.metadata.labels;
  const job = one("Job", "ws-service-migrate").spec.template.metadata.labels;
  const selectors = [
    one("Service").spec.selector,
    ...["Deployment", "PodDisruptionBudget"].map((kind) => one(kind).spec.selector.matchLabels),
    one("NetworkPolicy").spec.podSelector.matchLabels,
  ];
  for (const selector of selectors) expect([of(nodes, selector), of(job, selector)]).toEqual([true, false]);
  expect(of(one("Service").metadata.labels, one("ServiceMonitor").spec.selector.matchLabels)).toBe(true);
  const scaled = one("HorizontalPodAutoscaler").spec.metrics[0].pods.metric.name;
  expect(await shownMetrics()).toContain(scaled);
});
