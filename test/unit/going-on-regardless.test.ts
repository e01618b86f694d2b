/** Proves what going on regardless of `rate_limited` is, and what it is not [LIM]. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import * as v from "valibot";
import { configSchema } from "../../src/config/schema.ts";
import { emptyBuckets, RateLimiter } from "../../src/router/rate-limiter.ts";
import { limitClassOf } from "../../src/router/requests.ts";

const start = Date.UTC(2026, 0, 2);
const settings = () => v.parse(configSchema, {});

/** Tells what one message of the type costs at least. */
const oneOf = (type: string) => [{ limitClass: limitClassOf(type), tokens: 1 }];

test.each([
  [20, 200],
  [4, 200],
  [10, 100],
  [1, 25],
  [1, 200],
])("[LIM] %i every %i ms is going on regardless: a gap between bursts is no pause", (count, everyMs) => {
  const limiter = new RateLimiter(settings());
  // The phase of the bursts to the bucket's tokens must not matter.
  for (let phaseMs = 0; phaseMs < 500; phaseMs += 20) {
    const connection = emptyBuckets();
    let abusiveAt: number | null = null;
    while (limiter.take(connection, null, oneOf("message.send"), start).allowed);
    for (let now = start + phaseMs; abusiveAt === null && now < start + 60_000; now += everyMs) {
      for (let index = 0; index < count; index++) {
        const decision = limiter.take(connection, null, oneOf("message.send"), now);
        if (!decision.allowed && decision.abusive) abusiveAt ??= now;
      }
      limiter.settle(connection, now + everyMs / 2);
    }
    expect(abusiveAt).not.toBeNull();
    expect(abusiveAt! - start).toBeGreaterThanOrEqual(10_000);
    expect(abusiveAt! - start).toBeLessThanOrEqual(11_500);
  }
});

test("[LIM] many requests that each come again exactly when told, or a little early, are not abuse", () => {
  for (const earlyMs of [0, 2]) {
    const limiter = new RateLimiter(settings());
    const connection = emptyBuckets();
    // The moments at which the waiting requests come again; 5 ms lie between those that were sent together.
    const due = Array.from({ length: 120 }, (_, index) => start + (index % 10) * 5);
    while (due.length > 0) {
      due.sort((one, other) => one - other);
      const now = due.shift()!;
      const decision = limiter.take(connection, null, oneOf("message.send"), now);
      if (decision.allowed) continue;
      expect(decision.abusive).toBe(false);
      due.push(now + Math.max(1, decision.retryAfterMs - earlyMs));
    }
  }
});

test("[LIM] requests that each wait as told are not abuse when the network brings them unevenly", () => {
  fc.assert(
    fc.property(fc.infiniteStream(fc.integer({ min: 15, max: 75 })), (latencies) => {
      const limiter = new RateLimiter(settings());
      const connection = emptyBuckets();
      const latencyMs = () => latencies.next().value;
      while (limiter.take(connection, null, oneOf("message.send"), start).allowed);
      const sentAt = Array.from({ length: 30 }, (_, index) => start + index);
      let now = start;
      while (sentAt.length > 0) {
        sentAt.sort((one, other) => one - other);
        // Nothing overtakes on one connection.
        now = Math.max(now, sentAt.shift()! + latencyMs());
        const decision = limiter.take(connection, null, oneOf("message.send"), now);
        if (decision.allowed) continue;
        expect(decision.abusive).toBe(false);
        sentAt.push(now + latencyMs() + decision.retryAfterMs);
      }
    }),
  );
});

test("[LIM] a long wait that ends a little early is not abuse", () => {
  for (const type of ["presence.update", "authenticate"]) {
    const limiter = new RateLimiter(settings());
    const connection = emptyBuckets();
    for (let now = start; now < start + 600_000; ) {
      const decision = limiter.take(connection, null, oneOf(type), now);
      if (!decision.allowed) expect(decision.abusive).toBe(false);
      now += decision.allowed ? 1 : Math.max(1, decision.retryAfterMs - 2);
    }
  }
});

test("[LIM] small requests that come as they may while a large one waits as told are not abuse", () => {
  const limiter = new RateLimiter(settings());
  const connection = emptyBuckets();
  while (limiter.take(connection, null, oneOf("history"), start).allowed);
  let largeAt = start;
  let smallAt = start;
  for (let now = start; now < start + 120_000; now += 10) {
    const large = now >= largeAt && limiter.take(connection, null, [{ limitClass: "reading", tokens: 10 }], now);
    if (large) {
      if (!large.allowed) expect(large.abusive).toBe(false);
      largeAt = now + (large.allowed ? 1 : large.retryAfterMs);
    }
    const small = now >= smallAt && limiter.take(connection, null, oneOf("history"), now);
    if (!small) continue;
    if (!small.allowed) expect(small.abusive).toBe(false);
    smallAt = now + (small.allowed ? 240 : small.retryAfterMs);
  }
});

test("[LIM] who waits as told for one class and goes on with the others is not abusive", () => {
  const limiter = new RateLimiter(settings());
  const connection = emptyBuckets();
  let sendAt = start;
  for (let now = start; now < start + 120_000; now++) {
    if (now % 200 === 0) expect(limiter.take(connection, null, oneOf("ping"), now).allowed).toBe(true);
    if (now % 1_000 === 0) expect(limiter.take(connection, null, oneOf("typing.start"), now).allowed).toBe(true);
    if (now < sendAt) continue;
    const decision = limiter.take(connection, null, oneOf("message.send"), now);
    if (decision.allowed) continue;
    expect(decision.abusive).toBe(false);
    sendAt = now + decision.retryAfterMs;
  }
});

test("[LIM] a pause as long as the wait begins the window anew, and a shorter one does not", () => {
  for (const [heldBackMs, isAbusive] of [
    [300, true],
    [500, false],
  ] as const) {
    const limiter = new RateLimiter(settings());
    const connection = emptyBuckets();
    let abusive = 0;
    const goOn = (from: number) => {
      for (let now = from; now < from + 8_000; now += 20) {
        const decision = limiter.take(connection, null, oneOf("message.send"), now);
        if (!decision.allowed && decision.abusive) abusive++;
      }
    };
    while (limiter.take(connection, null, oneOf("message.send"), start).allowed);
    goOn(start);
    expect(abusive).toBe(0);
    limiter.settle(connection, start + 8_000 + heldBackMs / 2);
    goOn(start + 8_000 + heldBackMs);
    expect(abusive > 0).toBe(isAbusive);
  }
});

test("[LIM] a flood is going on regardless long before the window is over, by the number of what is refused", () => {
  const limiter = new RateLimiter(settings());
  const connection = emptyBuckets();
  let refused = 0;
  let now = start;
  for (;;) {
    const decision = limiter.take(connection, null, oneOf("typing.start"), now);
    if (decision.allowed) continue;
    refused++;
    if (decision.abusive) break;
    // Thirty in a millisecond.
    if (refused % 30 === 0) now++;
  }
  // The first 50 ms are one burst.
  expect(refused).toBeLessThan(2_000 + 60 * 30);
  expect(now - start).toBeLessThan(200);
});
