/** Proves how often things may be done: by a connection, a user and an address, and how many devices a user has [LIM]. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { Client, type Received } from "../support/client.ts";
import { RawSocket } from "../support/raw-socket.ts";
import { type Service, startService } from "../support/service.ts";
import { secret, signToken } from "../support/tokens.ts";

setDefaultTimeout(60_000);
const callId = "5a0d3b54-7d0e-4f0e-9c33-0d2f6a1c9e10";
let users = 0;
const fresh = () => `limited${++users}`;
const isLimited = ({ payload }: Received) => payload.code === "rate_limited";

/** Sends `count` requests at once. @returns their replies, in order */
function burst(client: Client, count: number, [type, payload]: [string, object]): Promise<Received[]> {
  return Promise.all(Array.from({ length: count }, () => client.request(type, payload)));
}

describe("as shipped", () => {
  let service: Service;
  beforeAll(async () => {
    service = await startService({ settings: { RATE_LIMITS__ENABLED: "true" } });
  });
  afterAll(() => service.stop());

  const classes: { request: [string, object]; perMinute: number; burst: number }[] = [
    { request: ["call.hangup", { call_id: callId }], perMinute: 120, burst: 60 },
    { request: ["unsubscribe", { topics: ["typing"] }], perMinute: 300, burst: 150 },
    { request: ["mark.read", { conversation_id: "c1", up_to_seq: 1 }], perMinute: 600, burst: 300 },
    { request: ["call.ice", { call_id: callId, candidates: null }], perMinute: 300, burst: 150 },
    { request: ["typing.stop", { conversation_id: "c1" }], perMinute: 60, burst: 30 },
    { request: ["presence.update", { status: "online" }], perMinute: 12, burst: 4 },
    { request: ["authenticate", { token: "x" }], perMinute: 5, burst: 5 },
    { request: ["ping", {}], perMinute: 600, burst: 120 },
  ];
  for (const { request, perMinute, burst: size } of classes) {
    test(`[LIM] ${request[0]}: ${size} at once, then ${perMinute} a minute`, async () => {
      const client = await Client.connect(service.url, { query: { user_id: fresh() } });
      const replies = await burst(client, size + 60, request);
      const first = replies.findIndex(isLimited);
      expect(first).toBeGreaterThanOrEqual(size);
      const { payload } = replies[first]!;
      expect(payload.retryable).toBe(true);
      expect(payload.retry_after_ms).toBeGreaterThan(0);
      expect(payload.retry_after_ms).toBeLessThanOrEqual(60_000 / perMinute);
      // The classes do not use up each other's.
      const [other] = await burst(client, 1, classes.find((it) => it.request !== request)!.request);
      expect(isLimited(other!)).toBe(false);
      await client.close();
    });
  }
});

describe("messages", () => {
  let service: Service;
  beforeAll(async () => {
    service = await startService({
      settings: {
        RATE_LIMITS__ENABLED: "true",
        RATE_LIMITS__DEFAULT__PER_MINUTE: "300",
        RATE_LIMITS__DEFAULT__BURST: "3",
        RATE_LIMITS__ABUSE_WINDOW: "300ms",
      },
    });
  });
  afterAll(() => service.stop());
  const connect = (user_id: string) => Client.connect(service.url, { query: { user_id } });
  const request: [string, object] = ["call.hangup", { call_id: callId }];

  test("[LIM] retry_after_ms is honest: what waits so long passes, and the connection stays", async () => {
    const client = await connect(fresh());
    for (let round = 0; round < 4; round++) {
      const replies = await burst(client, 5, request);
      const limited = replies.findLast(isLimited)!;
      expect(limited.payload.retry_after_ms).toBeLessThanOrEqual(200);
      await Bun.sleep(limited.payload.retry_after_ms);
      expect(isLimited(await client.request(...request))).toBe(false);
    }
    await client.close();
  });

  test("[LIM] [ENV4] what is over the limit is not done, and does not count as a bad message", async () => {
    const client = await connect(fresh());
    await burst(client, 3, request);
    const [reply] = await burst(client, 1, [
      "message.send",
      { conversation_id: "l1", client_message_id: "m1", content: "x" },
    ]);
    expect(isLimited(reply!)).toBe(true);
    const replies = await burst(client, 12, request);
    expect(replies.filter(isLimited).length).toBeGreaterThanOrEqual(10);
    await client.settled();
    const reader = await connect(fresh());
    expect((await reader.ask("history", { topic: "conversation:l1" })).events).toEqual([]);
    await Promise.all([client.close(), reader.close()]);
  });

  test("[LIM] [ENV5] going on regardless closes with 4103, with everything answered until then", async () => {
    const [client, other] = await Promise.all([connect(fresh()), connect(fresh())]);
    let isOver = false;
    void client.closed.then(() => {
      isOver = true;
    });
    let answered = 0;
    while (!isOver) {
      await client.request(...request).then(
        () => answered++,
        () => {},
      );
    }
    expect((await client.closed).code).toBe(4103);
    expect(answered).toBeGreaterThan(3);
    await other.settled();
    await other.close();
  });

  test("[LIM] a user's connections share the user's bucket; other users have their own", async () => {
    const userId = fresh();
    const [one, two, other] = await Promise.all([connect(userId), connect(userId), connect(fresh())]);
    const mine = [...(await burst(one!, 2, request)), ...(await burst(two!, 6, request))];
    expect(mine.filter((reply) => !isLimited(reply)).length).toBeLessThan(6);
    expect((await burst(other!, 3, request)).some(isLimited)).toBe(false);
    // Coming back does not fill the bucket.
    await two!.close();
    const again = await connect(userId);
    expect((await burst(again, 6, request)).filter((reply) => !isLimited(reply)).length).toBeLessThan(6);
    await Promise.all([one, other, again].map((client) => client!.close()));
  });
});

describe("before authentication", () => {
  test("[LIM] [CON2] what is not served yet is limited as well, and going on regardless closes with 4103", async () => {
    const service = await startService({
      settings: {
        AUTH__MODE: "token",
        AUTH__SECRET: secret,
        RATE_LIMITS__ENABLED: "true",
        RATE_LIMITS__DEFAULT__BURST: "3",
        RATE_LIMITS__ABUSE_WINDOW: "300ms",
      },
    });
    try {
      const client = await Client.open(service.url);
      await client.next("connected");
      const replies = await burst(client, 5, ["call.hangup", { call_id: callId }]);
      expect(replies.map(({ payload }) => payload.code)).toEqual([
        ...Array.from({ length: 3 }, () => "not_authenticated"),
        ...Array.from({ length: 2 }, () => "rate_limited"),
      ]);
      const goingOn = async () => {
        for (;;) await client.request("call.hangup", { call_id: callId });
      };
      await goingOn().catch(() => {});
      expect((await client.closed).code).toBe(4103);
    } finally {
      await service.stop();
    }
  });
});

describe("addresses", () => {
  const limited = {
    AUTH__BEHIND_GATEWAY: "true",
    RATE_LIMITS__ENABLED: "true",
    RATE_LIMITS__CONNECTIONS_PER_SECOND_PER_IP: "3",
    RATE_LIMITS__FAILED_AUTHENTICATIONS_PER_MINUTE_PER_IP: "3",
  };
  const statuses = async (service: Service, forwardedFor: (index: number) => string, count = 30) => {
    const raws = await Promise.all(
      Array.from({ length: count }, (_, index) =>
        RawSocket.dial(service.url, {
          query: { user_id: fresh() },
          headers: { "X-Forwarded-For": forwardedFor(index), Origin: "http://localhost:3000" },
        }),
      ),
    );
    for (const raw of raws) raw.destroy();
    return raws.map(({ answer }) => answer);
  };

  test("[LIM] [CON1] connection attempts of an address are limited: 429, rate_limited, Retry-After", async () => {
    const service = await startService({ settings: limited });
    try {
      // No proxy is trusted here: what the client says of itself changes nothing.
      const answers = await statuses(service, (index) => `192.0.2.${index}`);
      const refused = answers.filter(({ status }) => status === 429);
      expect(answers.length - refused.length).toBeGreaterThanOrEqual(3);
      expect(refused.length).toBeGreaterThan(0);
      for (const { body, headers } of refused) {
        expect(body.code).toBe("rate_limited");
        expect(Number(headers.get("retry-after"))).toBeGreaterThanOrEqual(1);
      }
      // Probes are nobody's connection attempts.
      for (let probe = 0; probe < 10; probe++) expect((await fetch(`${service.http}/live`)).status).toBe(200);
    } finally {
      await service.stop();
    }
  });

  test("[LIM] behind a trusted proxy each client has its own limit, and cannot choose whose it uses", async () => {
    const service = await startService({ settings: { ...limited, SERVER__TRUSTED_PROXIES: "127.0.0.1,10.0.0.0/8" } });
    try {
      const each = await statuses(service, (index) => `192.0.2.${index}`);
      expect(new Set(each.map(({ status }) => status))).toEqual(new Set([101]));
      // Further proxies that are trusted are passed over; what a client put before its own address is not believed.
      for (const chain of [
        (index: number) => `203.0.113.${index}, 198.51.100.7, 10.0.0.${index}`,
        () => "198.51.100.8",
      ]) {
        const answers = await statuses(service, chain);
        expect(answers.some(({ status }) => status === 429)).toBe(true);
      }
      // An IPv6 client has a whole /64.
      const wide = await statuses(service, (index) => `2001:db8:1:2::${index.toString(16)}`);
      expect(wide.some(({ status }) => status === 429)).toBe(true);
    } finally {
      await service.stop();
    }
  });

  test("[LIM] [AUTH3] tokens that nobody signed are limited for an address, at the upgrade and by message; good ones come in", async () => {
    const service = await startService({
      settings: {
        ...limited,
        RATE_LIMITS__CONNECTIONS_PER_SECOND_PER_IP: "1000",
        SERVER__TRUSTED_PROXIES: "127.0.0.1",
        AUTH__MODE: "token",
        AUTH__SECRET: secret,
      },
    });
    try {
      const from = (address: string) => ({ headers: { "X-Forwarded-For": address } });
      const token = await signToken({ sub: "anna", exp: Date.now() / 1_000 + 600 });
      for (let failure = 0; failure < 2; failure++) {
        expect((await RawSocket.refused(service.url, { ...from("192.0.2.1"), query: { token: "bad" } })).status).toBe(
          401,
        );
      }
      const third = await Client.open(service.url, from("192.0.2.1"));
      expect((await third.request("authenticate", { token: "bad" })).payload.code).toBe("token_invalid");
      const refused = await RawSocket.refused(service.url, { ...from("192.0.2.1"), query: { token: "bad" } });
      expect([refused.status, refused.body.code]).toEqual([429, "rate_limited"]);
      expect(Number(refused.headers.get("retry-after"))).toBeGreaterThanOrEqual(1);
      const waiting = await Client.open(service.url, from("192.0.2.1"));
      const { payload } = await waiting.request("authenticate", { token: "bad" });
      expect(payload.code).toBe("rate_limited");
      expect(payload.retry_after_ms).toBeGreaterThan(0);
      // Others behind the same address: who has a good token comes in, refreshes, and hears what is wrong with a bad one.
      expect((await waiting.request("authenticate", { token })).type).toBe("auth.success");
      const live = await Client.connect(service.url, { ...from("192.0.2.1"), query: { token } });
      expect((await live.request("authenticate", { token: "bad" })).payload.code).toBe("token_invalid");
      expect((await live.request("authenticate", { token })).type).toBe("auth.success");
      // One that has expired is told so, for its client to get a new one.
      const old = await signToken({ sub: "anna", exp: Date.now() / 1_000 - 600 });
      const expired = await RawSocket.refused(service.url, { ...from("192.0.2.1"), query: { token: old } });
      expect([expired.status, expired.body.code]).toEqual([401, "token_expired"]);
      await Promise.all([waiting.close(), live.close()]);
    } finally {
      await service.stop();
    }
  });

  test("[CON2] connections that are nobody's are few, of an address and of the node; who has a token comes in", async () => {
    const service = await startService({
      settings: {
        AUTH__MODE: "token",
        AUTH__SECRET: secret,
        AUTH__MAX_ANONYMOUS: "5",
        AUTH__MAX_ANONYMOUS_PER_ADDRESS: "3",
        WEBSOCKET__MAX_CONNECTIONS_PER_ADDRESS: "5",
        SERVER__TRUSTED_PROXIES: "127.0.0.1",
      },
    });
    try {
      const from = (address: string) => ({ headers: { "X-Forwarded-For": address } });
      const token = await signToken({ sub: "anna", exp: Date.now() / 1_000 + 600 });
      const refusal = async (options: object) => {
        const { status, body, headers } = await RawSocket.refused(service.url, options);
        expect([status, body.code]).toEqual([429, "limit_exceeded"]);
        expect(Number(headers.get("retry-after"))).toBeGreaterThanOrEqual(1);
        return body.message as string;
      };
      // All at once: whoever is being admitted has a place already.
      const raws = await Promise.all(Array.from({ length: 9 }, () => RawSocket.dial(service.url, from("192.0.2.1"))));
      expect(raws.filter(({ answer }) => answer.status === 101).length).toBe(3);
      expect(await refusal(from("192.0.2.1"))).toContain("of this address");
      const others = [await Client.open(service.url, from("2001:db8::1")), await Client.open(service.url, from("::2"))];
      expect(await refusal(from("192.0.2.9"))).not.toContain("of this address");
      const live = await Client.connect(service.url, { ...from("192.0.2.1"), query: { token, device_id: "a" } });
      // A client that authenticates, or goes, makes room.
      await others[0]!.ask("authenticate", { token, device_id: "b" });
      const next = await Client.open(service.url, from("192.0.2.9"));
      await next.close();
      await (await Client.open(service.url, from("192.0.2.9"))).close();
      await Client.connect(service.url, { ...from("192.0.2.1"), query: { token, device_id: "c" } });
      expect(await refusal({ ...from("192.0.2.1"), query: { token, device_id: "d" } })).toContain(
        "as many connections",
      );
      await live.close();
      await Client.connect(service.url, { ...from("192.0.2.1"), query: { token, device_id: "d" } });
    } finally {
      await service.stop();
    }
  });

  test("[AUTH3] an office with expired tokens after a weekend locks nobody out", async () => {
    const service = await startService({
      settings: { RATE_LIMITS__ENABLED: "true", AUTH__MODE: "token", AUTH__SECRET: secret },
    });
    try {
      const seconds = Date.now() / 1_000;
      const office = Array.from({ length: 35 }, (_, index) => signToken({ sub: `u${index}`, exp: seconds - 300 }));
      for (const token of office) {
        const { status, body } = await RawSocket.refused(service.url, { query: { token: await token } });
        expect([status, body.code]).toEqual([401, "token_expired"]);
      }
      const token = await signToken({ sub: "u1", exp: seconds + 60 });
      await (await Client.connect(service.url, { query: { token } })).close();
      // None of them counts: as many tokens of no worth are told so as ever.
      expect((await RawSocket.refused(service.url, { query: { token: "bad" } })).status).toBe(401);
    } finally {
      await service.stop();
    }
  });
});

describe("devices", () => {
  test("[CON3] [LIM] a user has ten devices: for the eleventh the one that was heard from longest ago goes, with 4012", async () => {
    const service = await startService();
    try {
      const connect = (device: number | string) =>
        Client.connect(service.url, { query: { user_id: "anna", device_id: `d${device}` } });
      const devices: Client[] = [];
      for (let index = 0; index < 10; index++) devices.push(await connect(index));
      // The device that was here first has been heard from since.
      for (const index of [0, 1, 2, 4, 5, 6, 7, 8, 9]) await devices[index]!.settled();
      const eleventh = await connect("eleventh");
      expect((await devices[3]!.closed).code).toBe(4012);
      const own = async () => (await eleventh.ask("presence.query", { user_ids: ["anna"] })).users[0].devices;
      expect(await own()).toBe(10);
      // Connecting again is no further device, and another user has ten of its own.
      await connect(0);
      expect((await devices[0]!.closed).code).toBe(4010);
      await Client.connect(service.url, { query: { user_id: "ben", device_id: "d0" } });
      for (const index of [1, 2, 4, 5, 6, 7, 8, 9]) await devices[index]!.settled();
      expect(await own()).toBe(10);
    } finally {
      await service.stop();
    }
  });

  test("[CON3] all tabs of a laptop that has changed its network come in, beside their own half-open lines", async () => {
    const service = await startService({ settings: { PRESENCE__MAX_DEVICES: "4" } });
    try {
      const query = { user_id: "anna" };
      const dead = await Promise.all([1, 2, 3].map(() => RawSocket.open(service.url, { query, halfOpen: true })));
      const phone = await Client.connect(service.url, { query: { ...query, device_id: "phone" } });
      const tabs = await Promise.all([1, 2, 3].map(() => Client.connect(service.url, { query })));
      for (const client of [phone, ...tabs]) await client.settled();
      const own = async () => (await phone.ask("presence.query", { user_ids: ["anna"] })).users[0].devices;
      expect(await own()).toBe(4);
      for (const raw of dead) raw.destroy();
    } finally {
      await service.stop();
    }
  });
});
