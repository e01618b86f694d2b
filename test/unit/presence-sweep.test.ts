/** Presence: what the stores name once only is told of, whatever fails or ends in between. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { device, openPresenceWorld, type PresenceWorld } from "../support/presence.ts";

let world: PresenceWorld;
beforeEach(async () => {
  world = await openPresenceWorld();
});
afterEach(() => world.close());

const ann = device("ann", "phone");
const busyFor = (ms: number) => ({
  status: "busy" as const,
  automatic: false,
  expires_at: new Date(world.clock.now() + ms).toISOString(),
});

test("[PRE2] the end of a status is told later where the user could not be read by then", async () => {
  await world.tracker.connect(ann);
  await world.tracker.update(ann, busyFor(3_000));
  await world.heard();
  world.away.add("get");
  world.tracker.start();
  await world.clock.pass(5_000);
  expect(await world.heard()).toEqual([]);
  world.away.clear();
  await world.clock.pass(5_000);
  expect(await world.heard()).toEqual(["others update ann online", "own update ann online"]);
});

test("[PRE1] [DRN] a node that stops still tells of those whom it was named just then", async () => {
  const asked = Promise.withResolvers<void>();
  const answer = Promise.withResolvers<string[]>();
  const survivor = world.addNode("n2", {
    ...world.registry,
    sweep() {
      asked.resolve();
      return answer.promise;
    },
  });
  survivor.start();
  await world.clock.pass(1_000);
  await asked.promise;
  const stopped = survivor.stop();
  answer.resolve(["ann"]);
  await stopped;
  expect(await world.heard()).toEqual(["others offline ann"]);
});

test("[PRE1] [DRN] a node that stops still tells of a device that was leaving", async () => {
  const asked = Promise.withResolvers<void>();
  const go = Promise.withResolvers<void>();
  const node = world.addNode("n2", {
    ...world.registry,
    async remove(place) {
      asked.resolve();
      await go.promise;
      return world.registry.remove(place);
    },
  });
  await node.connect(ann);
  await world.heard();
  const left = node.disconnect({ ...ann, clean: true });
  await asked.promise;
  const stopped = node.stop();
  go.resolve();
  await Promise.all([left, stopped]);
  expect(await world.heard()).toEqual(["others offline ann"]);
});
