/** Proves the limits on messages and addresses [LIM]. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import * as v from "valibot";
import { configSchema } from "../../src/config/schema.ts";
import { afterTake, waitMs } from "../../src/ground/token-bucket.ts";
import { clientMessageTypes } from "../../src/protocol/client.ts";
import { emptyBuckets, RateLimiter } from "../../src/router/rate-limiter.ts";
import { limitClassOf, requestClasses } from "../../src/router/requests.ts";
import { AddressLimiter, addressBlock } from "../../src/websocket/address-limiter.ts";

const start = Date.UTC(2026, 0, 2);
const settings = (overrides: Record<string, unknown> = {}) => v.parse(configSchema, { rate_limits: overrides });
const limitsOf = (overrides: Record<string, unknown>) => settings(overrides).rate_limits;

/** Tells what one message of the type costs at least. */
const oneOf = (type: string) => [{ limitClass: limitClassOf(type), tokens: 1 }];

/** How many messages of the type one connection gets through at one moment. */
function burstOf(type: string, overrides: Record<string, unknown> = {}): number {
  const limiter = new RateLimiter(settings(overrides));
  const connection = emptyBuckets();
  let count = 0;
  while (count < 10_000 && limiter.take(connection, null, oneOf(type), start).allowed) count++;
  return count;
}

describe("messages", () => {
  test("[LIM] an answer that costs more than is there is waited for afterwards, a full bucket's time at most", () => {
    const limiter = new RateLimiter(settings({}));
    const connection = emptyBuckets();
    const later = (tokens: number) => limiter.takeLater(connection, null, { limitClass: "reading", tokens }, start);
    const decide = (now: number) => limiter.take(connection, null, oneOf("subscribe"), now);
    later(150 + 32);
    // 33 tokens at 300 a minute.
    expect(decide(start)).toMatchObject({ allowed: false, retryAfterMs: 33 * 200 });
    expect(decide(start + 33 * 200 - 1).allowed).toBe(false);
    expect(decide(start + 33 * 200).allowed).toBe(true);
    for (let at = 0; at < 40; at++) later(32);
    expect(decide(start)).toMatchObject({ allowed: false, retryAfterMs: 151 * 200 });
  });

  test("[LIM] each class has its own burst and the documented default", () => {
    expect(burstOf("message.send")).toBe(60);
    expect(burstOf("subscribe")).toBe(150);
    expect(burstOf("mark.read")).toBe(300);
    expect(burstOf("event.send")).toBe(60);
    expect(burstOf("call.ice")).toBe(150);
    expect(burstOf("typing.start")).toBe(30);
    expect(burstOf("presence.update")).toBe(4);
    expect(burstOf("authenticate")).toBe(5);
    expect(burstOf("ping")).toBe(120);
    expect(burstOf("admin.stats")).toBe(120);
  });

  test("[LIM] every message type belongs to a class, and unknown ones to the default", () => {
    const special: string[] = clientMessageTypes.filter((it) => limitClassOf(it) !== "default");
    expect(special.toSorted()).toEqual(
      [
        ...["ack", "authenticate", "call.ice", "history", "mark.delivered", "mark.read", "ping", "presence.query"],
        ...["presence.update", "publish", "subscribe", "typing.start", "typing.stop", "unsubscribe", "event.send"],
        ...["members", ...clientMessageTypes.filter((it) => it.startsWith("admin."))],
      ].toSorted(),
    );
    // A class without a request has nobody in it; its setting would do nothing.
    const rates = Object.entries(settings().rate_limits).filter(([, rate]) => typeof rate === "object");
    expect(rates.map(([name]) => name).toSorted()).toEqual([...requestClasses, "bytes"].toSorted());
    expect(limitClassOf("no.such.type")).toBe("default");
    expect(limitClassOf("constructor")).toBe("default");
  });

  test("[LIM] a refusal tells when the next message is allowed, to the millisecond", () => {
    const limiter = new RateLimiter(settings({ default: { per_minute: 120, burst: 1 } }));
    const connection = emptyBuckets();
    expect(limiter.take(connection, null, oneOf("message.send"), start)).toEqual({ allowed: true });
    expect(limiter.take(connection, null, oneOf("message.send"), start)).toEqual({
      allowed: false,
      retryAfterMs: 500,
      abusive: false,
    });
    expect(limiter.take(connection, null, oneOf("message.send"), start + 499)).toMatchObject({
      allowed: false,
      retryAfterMs: 1,
    });
    expect(limiter.take(connection, null, oneOf("message.send"), start + 500)).toEqual({ allowed: true });
  });

  test("[LIM] a class that is used up leaves the others alone", () => {
    const limiter = new RateLimiter(settings({ typing: { per_minute: 1, burst: 1 } }));
    const connection = emptyBuckets();
    expect(limiter.take(connection, null, oneOf("typing.start"), start).allowed).toBe(true);
    expect(limiter.take(connection, null, oneOf("typing.stop"), start).allowed).toBe(false);
    expect(limiter.take(connection, null, oneOf("message.send"), start).allowed).toBe(true);
  });

  test("[LIM] a user's connections share one bucket, and a refusal takes from neither", () => {
    const limiter = new RateLimiter(settings({ default: { per_minute: 60, burst: 3 } }));
    const [phone, laptop] = [emptyBuckets(), emptyBuckets()];
    for (let index = 0; index < 3; index++) {
      expect(limiter.take(phone, limiter.ofUser("u1"), oneOf("message.send"), start).allowed).toBe(true);
    }
    expect(limiter.take(laptop, limiter.ofUser("u1"), oneOf("message.send"), start)).toMatchObject({
      retryAfterMs: 1_000,
    });
    expect(laptop.fullAt).toBeNull();
    expect(limiter.take(emptyBuckets(), limiter.ofUser("u2"), oneOf("message.send"), start).allowed).toBe(true);
  });

  test("[LIM] [AUTH3] refreshing and pinging are counted for each connection alone", () => {
    const limiter = new RateLimiter(settings());
    for (let device = 0; device < 10; device++) {
      for (let index = 0; index < 5; index++) {
        expect(limiter.take(emptyBuckets(), limiter.ofUser("u1"), oneOf("authenticate"), start).allowed).toBe(true);
      }
    }
    expect(limiter.ofUser("u1").fullAt).toBeNull();
  });

  test("[LIM] going on regardless for the whole window is abuse, also between refilled tokens", () => {
    const limiter = new RateLimiter(settings());
    const connection = emptyBuckets();
    let firstRefusal: number | null = null;
    let abusiveAt: number | null = null;
    for (let now = start; abusiveAt === null && now < start + 60_000; now += 20) {
      const decision = limiter.take(connection, null, oneOf("message.send"), now);
      if (decision.allowed) continue;
      firstRefusal ??= now;
      if (decision.abusive) abusiveAt = now;
    }
    expect(abusiveAt! - firstRefusal!).toBeGreaterThanOrEqual(10_000);
    expect(abusiveAt! - firstRefusal!).toBeLessThanOrEqual(10_500);
  });

  test("[LIM] who waits as long as it was told is never abusive, however greedy", () => {
    const limiter = new RateLimiter(settings());
    const connection = emptyBuckets();
    let now = start;
    while (now < start + 120_000) {
      const decision = limiter.take(connection, null, oneOf("message.send"), now);
      if (decision.allowed) continue;
      expect(decision.abusive).toBe(false);
      now += decision.retryAfterMs;
    }
  });

  test("[LIM] who waits as told after each refusal is never abusive, however soon it goes on after an answer", () => {
    for (const type of ["message.send", "typing.start", "presence.update"] as const) {
      for (const thinkMs of [0, 100, 250, 300, 350, 500, 700, 1_000, 2_500]) {
        for (const lateMs of [0, 20, 300]) {
          const limiter = new RateLimiter(settings());
          const connection = emptyBuckets();
          for (let now = start; now < start + 120_000; ) {
            const decision = limiter.take(connection, null, oneOf(type), now);
            expect([type, thinkMs, lateMs, !decision.allowed && decision.abusive]).toEqual([
              type,
              thinkMs,
              lateMs,
              false,
            ]);
            now += decision.allowed ? Math.max(1, thinkMs) : decision.retryAfterMs + lateMs;
          }
        }
      }
    }
  });

  test("[LIM] going on regardless is abuse at whatever pace that is faster than the wait", () => {
    for (const everyMs of [1, 60, 100, 200]) {
      const limiter = new RateLimiter(settings());
      const connection = emptyBuckets();
      let isAbusive = false;
      for (let now = start; !isAbusive && now < start + 60_000; now += everyMs) {
        const decision = limiter.take(connection, null, oneOf("message.send"), now);
        isAbusive = !decision.allowed && decision.abusive;
      }
      expect([everyMs, isAbusive]).toEqual([everyMs, true]);
    }
  });

  test("[LIM] several messages at once and then the wait that was told is not abuse", () => {
    const limiter = new RateLimiter(settings());
    const connection = emptyBuckets();
    let now = start;
    while (now < start + 120_000) {
      let waitMs = 20;
      for (let index = 0; index < 5; index++, now += 5) {
        const decision = limiter.take(connection, null, oneOf("message.send"), now);
        if (decision.allowed) continue;
        expect(decision.abusive).toBe(false);
        waitMs = decision.retryAfterMs;
      }
      now += waitMs;
    }
  });

  test("[LIM] a silence starts the window anew", () => {
    const limiter = new RateLimiter(settings({ default: { per_minute: 1, burst: 1 } }));
    const connection = emptyBuckets();
    limiter.take(connection, null, oneOf("message.send"), start);
    expect(limiter.take(connection, null, oneOf("message.send"), start + 1)).toMatchObject({ abusive: false });
    expect(limiter.take(connection, null, oneOf("message.send"), start + 9_000)).toMatchObject({ abusive: false });
    expect(limiter.take(connection, null, oneOf("message.send"), start + 50_000)).toMatchObject({ abusive: false });
    expect(limiter.take(connection, null, oneOf("message.send"), start + 59_999)).toMatchObject({ abusive: false });
  });

  test("[LIM] switched off, nothing is refused and nothing is kept", () => {
    expect(burstOf("authenticate", { enabled: false })).toBe(10_000);
    const limiter = new RateLimiter(settings({ enabled: false }));
    const connection = emptyBuckets();
    limiter.take(connection, null, oneOf("message.send"), start);
    expect(connection).toEqual({ fullAt: null, refusals: null });
    const addresses = new AddressLimiter(limitsOf({ enabled: false }));
    for (let index = 0; index < 1_000; index++) {
      expect(addresses.connect("192.0.2.1", start).allowed).toBe(true);
      addresses.noteFailure("192.0.2.1", start);
    }
    expect(addresses.mayFail("192.0.2.1", start).allowed).toBe(true);
    expect(addresses.addresses()).toBe(0);
  });

  test("[LIM] idle owners hold nothing, and only full buckets are forgotten", () => {
    const limiter = new RateLimiter(settings({ default: { per_minute: 60, burst: 2 } }));
    const connection = emptyBuckets();
    expect(connection.fullAt).toBeNull();
    for (let index = 0; index < 3; index++)
      limiter.take(connection, limiter.ofUser("u1"), oneOf("message.send"), start);
    limiter.sweep(start + 1_999);
    expect(limiter.users()).toBe(1);
    expect(limiter.settle(connection, start + 1_999)).toBe(false);
    limiter.sweep(start + 2_000);
    expect(limiter.users()).toBe(0);
    expect(limiter.settle(connection, start + 2_000)).toBe(true);
    expect(connection).toEqual({ fullAt: null, refusals: null });
  });

  test("[LIM] a clock that is set back locks nobody out", () => {
    const limiter = new RateLimiter(settings());
    const connection = emptyBuckets();
    while (limiter.take(connection, null, oneOf("message.send"), start).allowed);
    expect(limiter.take(connection, null, oneOf("message.send"), start - 3_600_000).allowed).toBe(true);
  });

  test("[LIM] the bucket as one number does what a counted bucket does", () => {
    const rates = fc.record({ intervalMs: fc.integer({ min: 1, max: 5_000 }), burst: fc.integer({ min: 1, max: 50 }) });
    fc.assert(
      fc.property(
        rates,
        fc.array(fc.tuple(fc.nat(6_000), fc.integer({ min: 1, max: 60 })), { maxLength: 200 }),
        (rate, draws) => {
          let [fullAt, now] = [0, start];
          // In milliseconds of refill, so that the model counts whole numbers.
          let level = rate.burst * rate.intervalMs;
          for (const [gap, tokens] of draws) {
            now += gap;
            level = Math.min(level + gap, rate.burst * rate.intervalMs);
            const waiting = waitMs(rate, { fullAt, now, tokens });
            const taken = Math.min(tokens, rate.burst) * rate.intervalMs;
            expect(waiting).toBe(Math.max(0, taken - level));
            if (waiting > 0) continue;
            level -= taken;
            fullAt = afterTake(rate, { fullAt, now, tokens });
          }
        },
      ),
    );
  });
});

describe("addresses", () => {
  test("[LIM] connection attempts of one address are limited by the second", () => {
    const limiter = new AddressLimiter(limitsOf({ connections_per_second_per_ip: 3 }));
    for (let index = 0; index < 3; index++) expect(limiter.connect("192.0.2.1", start).allowed).toBe(true);
    expect(limiter.connect("192.0.2.1", start)).toEqual({ allowed: false, retryAfterMs: 334 });
    expect(limiter.connect("::ffff:192.0.2.1", start).allowed).toBe(false);
    expect(limiter.connect("192.0.2.2", start).allowed).toBe(true);
    expect(limiter.connect("192.0.2.1", start + 334).allowed).toBe(true);
  });

  test("[LIM] failed authentications of one address are limited by the minute; successful ones are free", () => {
    const limiter = new AddressLimiter(limitsOf({ failed_authentications_per_minute_per_ip: 2 }));
    for (let index = 0; index < 100; index++) {
      expect(limiter.mayFail("192.0.2.1", start).allowed).toBe(true);
    }
    // More failures than the limit, from attempts that were under way together, are no debt.
    for (let index = 0; index < 50; index++) limiter.noteFailure("192.0.2.1", start);
    expect(limiter.mayFail("192.0.2.1", start)).toEqual({ allowed: false, retryAfterMs: 30_000 });
    expect(limiter.mayFail("192.0.2.9", start).allowed).toBe(true);
    expect(limiter.mayFail("192.0.2.1", start + 30_000).allowed).toBe(true);
  });

  test("[LIM] IPv6 counts by /64, and IPv4 written as IPv6 as IPv4", () => {
    expect(addressBlock("2001:db8:0:1::1")).toBe("2001:db8:0:1::/64");
    expect(addressBlock("2001:0DB8:0000:0001:ffff:ffff:ffff:ffff")).toBe("2001:db8:0:1::/64");
    expect(addressBlock("2001:db8::1:0:0:0:5")).toBe("2001:db8:0:1::/64");
    expect(addressBlock("2001:db8:0:2::1")).toBe("2001:db8:0:2::/64");
    expect(addressBlock("::1")).toBe("0:0:0:0::/64");
    expect(addressBlock("fe80::1%eth0")).toBe("fe80:0:0:0::/64");
    expect(addressBlock("::ffff:192.0.2.1")).toBe("192.0.2.1");
    expect(addressBlock("::ffff:c000:201")).toBe("192.0.2.1");
    expect(addressBlock("192.0.2.1")).toBe("192.0.2.1");
    expect(addressBlock("unknown")).toBe("unknown");
  });

  test("[LIM] a /48 of IPv6 may try what five addresses may, whichever of its /64s it comes from", () => {
    const limiter = new AddressLimiter(
      limitsOf({ connections_per_second_per_ip: 3, failed_authentications_per_minute_per_ip: 2 }),
    );
    const from = (site: string, index: number) => `2001:db8:${site}:${index.toString(16)}::1`;
    const admitted = Array.from({ length: 100 }, (_, index) => limiter.connect(from("1", index), start));
    expect(admitted.filter(({ allowed }) => allowed)).toHaveLength(15);
    expect(admitted.at(-1)).toMatchObject({ allowed: false });
    expect(limiter.connect(from("2", 0), start).allowed).toBe(true);
    for (let index = 0; index < 10; index++) {
      expect(limiter.mayFail(from("1", index), start).allowed).toBe(true);
      limiter.noteFailure(from("1", index), start);
    }
    expect(limiter.mayFail(from("1", 99), start).allowed).toBe(false);
    expect(limiter.mayFail(from("2", 0), start).allowed).toBe(true);
  });

  test("[LIM] the addresses of one /64 share one block however they are written", () => {
    fc.assert(
      fc.property(fc.ipV6(), (address) => {
        // A URL writes an address in its one canonical form; a few forms it does not read.
        const url = URL.parse(`http://[${address}]`);
        fc.pre(url !== null);
        const canonical = url!.hostname.slice(1, -1);
        expect(addressBlock(address)).toBe(addressBlock(canonical));
      }),
    );
  });

  test("[LIM] memory is bounded: the address heard of longest ago goes first, a busy offender stays", () => {
    const limiter = new AddressLimiter(limitsOf({ failed_authentications_per_minute_per_ip: 1 }), {
      addressesMax: 10,
    });
    for (let index = 0; index < 1_000; index++) {
      limiter.noteFailure("198.51.100.1", start);
      limiter.noteFailure(`2001:db8:${index.toString(16)}::1`, start);
      expect(limiter.addresses()).toBeLessThanOrEqual(10);
    }
    expect(limiter.mayFail("198.51.100.1", start).allowed).toBe(false);
    expect(limiter.mayFail("2001:db8:0:0::1", start).allowed).toBe(true);
    limiter.sweep(start + 60_000);
    expect(limiter.addresses()).toBe(0);
  });
});
