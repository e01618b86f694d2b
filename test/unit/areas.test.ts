/** Proves that areas start in their order and stop in the reverse one, and that one which stands before what it needs does not compile. */
import { expect, test } from "bun:test";
import * as v from "valibot";
import { Composition } from "../../src/app/area.ts";
import { baseOf } from "../../src/app/base.ts";
import { configSchema } from "../../src/config/schema.ts";
import { routes } from "../../src/handlers/routes.ts";
import { createLogSink } from "../../src/telemetry/logger.ts";
import type { StatMetric } from "../../src/telemetry/stat-metrics.ts";

const { logger } = createLogSink({ level: "silent", format: "json" });
const config = v.parse(configSchema, { websocket: { cleanup_interval: "5ms" } });

test("[LAYERS] areas start in their order, are swept, and stop in the reverse order", async () => {
  const seen: string[] = [];
  const swept = Promise.withResolvers<number>();
  const areaOf = <Parts>(name: string, parts: Parts) => ({
    parts,
    start: async () => void seen.push(`${name} starts`),
    stop: async () => void seen.push(`${name} stops`),
  });
  const needsGround = (_: unknown, { ground }: { ground: string }) =>
    areaOf("house", { house: `a house on ${ground}` });
  const base = baseOf({ config, routes, logger, version: "1", now: () => 7 });
  const service = Composition.of(base, areaOf("ground", { ground: "rock" }))
    .add(needsGround)
    .add(() => ({ ...areaOf("roof", {}), sweep: (at) => swept.resolve(at) }));
  // @ts-expect-error it stands before what it needs
  void (() => Composition.of(base, areaOf("nothing", {})).add(needsGround));
  expect(service.parts.house).toBe("a house on rock");
  await service.start();
  expect(await swept.promise).toBe(7);
  await service.stop();
  expect(seen).toEqual(["ground starts", "house starts", "roof starts", "roof stops", "house stops", "ground stops"]);
});

test("[END3] a metric that names a stat which no part counts does not compile", () => {
  const metric: StatMetric = { name: "ws_connections", help: "Open connections", of: ["hub", "connections"] };
  // @ts-expect-error nobody counts that
  metric.of = ["hub", "conections"];
  // @ts-expect-error that is another part's
  metric.of = ["typing", "connections"];
  expect(metric.name).toBe("ws_connections");
});
