/** Proves that what changes between the first and the last check of an upgrade counts [CON1] [DRN]. */
import { expect, test } from "bun:test";
import * as v from "valibot";
import { configSchema } from "../../src/config/schema.ts";
import { jsonCodec } from "../../src/protocol/codec.ts";
import { AddressLimiter } from "../../src/websocket/address-limiter.ts";
import { type Refusal, type UpgradeOptions, Upgrades } from "../../src/websocket/upgrade.ts";

const config = v.parse(configSchema, {});

test("[DRN] [CON1] who was being checked when draining began is not let in any more", async () => {
  let isDraining = false;
  const asked = Promise.withResolvers<void>();
  const answered = Promise.withResolvers<void>();
  const parts = {
    config,
    credentials: {
      async checkUser() {
        asked.resolve();
        await answered.promise;
      },
    },
    addresses: new AddressLimiter(config.rate_limits),
    codecs: { json: jsonCodec },
    connections: () => 0,
    isDraining: () => isDraining,
    now: () => 0,
    newId: () => "id",
  };
  const upgrades = new Upgrades(parts as unknown as UpgradeOptions);
  const request = new Request("http://localhost/ws?user_id=u1", { headers: { upgrade: "websocket" } });
  const source = { address: "192.0.2.1", isInternal: false, isOfThisMachine: () => true };
  const admission = Promise.resolve(upgrades.admit(request, source)).then(
    () => null,
    (error: Refusal) => error,
  );
  await asked.promise;
  isDraining = true;
  answered.resolve();
  expect(await admission).toMatchObject({ status: 503, code: "draining" });
  expect(upgrades.inProgress).toBe(0);
});
