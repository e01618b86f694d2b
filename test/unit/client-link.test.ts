/** Holds the client's link to the close codes, to its pauses, and to lines that say nothing any more. */
import { describe, expect, test } from "bun:test";
import { handLink } from "../support/hand-sockets.ts";

const stopsBy = {
  4001: "protocol_abuse",
  4004: "authentication",
  4005: "identity_change",
  4006: "version",
  4010: "replaced",
  4011: "revoked",
  4012: "too_many_devices",
  4099: "version",
} as const;

describe("[ENV5] what a close code means", () => {
  for (const [code, reason] of Object.entries(stopsBy))
    test(`${code}: it stops, ${reason}, until it is started`, async () => {
      const it = handLink();
      await it.started();
      it.socket.greet();
      expect(it.link.state).toEqual({ status: "live" });
      it.socket.end(Number(code));
      expect(it.link.state).toEqual({ status: "stopped", reason, code: Number(code) });
      await it.clock.pass(3_600_000);
      expect(it.sockets.length).toBe(1);
      await it.started();
      expect(it.sockets.length).toBe(2);
    });

  for (const code of [1000, 1001, 1005, 1006, 1009, 1011, 4100, 4101, 4102, 4199])
    test(`${code}: it comes back with backoff`, async () => {
      const it = handLink();
      await it.started();
      it.socket.greet();
      it.socket.end(code);
      expect(it.link.state).toEqual({ status: "waiting", reason: "closed", code, retryAt: it.clock.now() + 500 });
      await it.clock.pass(499);
      expect(it.sockets.length).toBe(1);
      await it.clock.pass(1);
      expect(it.sockets.length).toBe(2);
    });

  for (const code of [4103, 4105])
    test(`${code}: it stays away for some seconds, whoever looks at it`, async () => {
      const it = handLink({ random: () => 0 });
      await it.started();
      it.socket.greet();
      it.socket.end(code);
      expect(it.link.state).toMatchObject({ status: "waiting", retryAt: it.clock.now() + 5_000 });
      it.happen("wake");
      await it.clock.pass(4_999);
      expect(it.sockets.length).toBe(1);
      await it.clock.pass(1);
      expect(it.sockets.length).toBe(2);
    });

  test("4010: where it may be another device it comes back as one", async () => {
    const it = handLink({ whenReplaced: "another_device" });
    await it.started();
    it.socket.greet();
    it.socket.end(4010);
    await it.clock.pass(500);
    expect(it.sockets.map(({ url }) => url.searchParams.get("device_id"))).toEqual([null, null]);
    it.socket.greet({ device_id: "d2" });
    it.socket.end(1006);
    await it.clock.pass(1_000);
    expect(it.socket.url.searchParams.get("device_id")).toBe("d2");
  });

  test("[DRN] 1012: it comes back when it was told, however early the line ends", async () => {
    const it = handLink({ random: () => 0 });
    await it.started();
    it.socket.greet();
    it.socket.say("draining", { reconnect_after_ms: 7_500 });
    expect(it.link.state).toEqual({ status: "live" });
    await it.clock.pass(1_000);
    it.socket.end(1012);
    expect(it.link.state).toEqual({
      status: "waiting",
      reason: "draining",
      code: 1012,
      retryAt: it.clock.now() + 6_500,
    });
    await it.clock.pass(6_499);
    expect(it.sockets.length).toBe(1);
    await it.clock.pass(1);
    expect(it.sockets.length).toBe(2);
  });
});

test("[DRN] [ENV5] a clock that is set back makes it wait no longer than it was told, nor once more", async () => {
  const it = handLink({ random: () => 0 });
  await it.started();
  it.socket.greet();
  it.socket.say("draining", { reconnect_after_ms: 7_500 });
  it.sleep(-3_600_000);
  it.socket.end(1012);
  expect(it.link.state).toMatchObject({ status: "waiting", retryAt: it.clock.now() + 7_500 });
  await it.clock.pass(7_500);
  it.socket.greet();
  it.sleep(-3_600_000);
  it.socket.end(1006);
  expect(it.link.state).toMatchObject({ status: "waiting", retryAt: it.clock.now() });
});

test("[DRN] a server that restarts and refuses meanwhile is tried every 2 s for half a minute, and then as any that is away", async () => {
  const it = handLink();
  await it.started();
  it.socket.greet();
  it.socket.say("draining", { reconnect_after_ms: 1_000 });
  it.socket.end(1012);
  const restartedAt = it.clock.now();
  const pauses: number[] = [];
  while (it.clock.now() - restartedAt < 80_000) {
    const { state } = it.link;
    if (state.status !== "waiting") throw new Error(state.status);
    pauses.push(state.retryAt - it.clock.now());
    await it.clock.pass(pauses.at(-1)!);
    it.socket.end(1006);
  }
  expect(pauses.slice(0, 6)).toEqual([1_500, 1_000, 2_000, 2_000, 2_000, 2_000]);
  expect(pauses.filter((pause) => pause === 2_000)).toHaveLength(15);
  expect(pauses.slice(17)).toEqual([4_000, 8_000, 16_000, 30_000]);
});

test("[DRN] [ENV5] once the server is back from its restart, a line that breaks is one like any other", async () => {
  const it = handLink();
  await it.started();
  it.socket.greet();
  it.socket.end(1012);
  for (const pause of [500, 1_000, 2_000]) {
    expect(it.link.state).toMatchObject({ retryAt: it.clock.now() + pause });
    await it.clock.pass(pause);
    it.socket.end(1006);
  }
  expect(it.link.state).toMatchObject({ retryAt: it.clock.now() + 2_000 });
  await it.clock.pass(2_000);
  it.socket.greet();
  await it.clock.pass(5_000);
  for (const pause of [500, 1_000, 2_000, 4_000]) {
    it.socket.end(1006);
    expect(it.link.state).toMatchObject({ retryAt: it.clock.now() + pause });
    await it.clock.pass(pause);
  }
});

test("[ENV5] pauses are random up to a bound that doubles to 30 s, and begin anew once it was live for a while", async () => {
  const it = handLink();
  await it.started();
  const pauses: number[] = [];
  for (let index = 0; index < 9; index++) {
    it.socket.end(1006);
    const { state } = it.link;
    if (state.status !== "waiting") throw new Error(state.status);
    expect(state.reason).toBe("refused");
    pauses.push(state.retryAt - it.clock.now());
    await it.clock.pass(pauses.at(-1)!);
  }
  expect(pauses).toEqual([500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000]);
  it.socket.greet();
  await it.clock.pass(4_000);
  it.socket.end(1006);
  expect(it.link.state).toMatchObject({ retryAt: it.clock.now() + 30_000 });
  await it.clock.pass(30_000);
  it.socket.greet();
  await it.clock.pass(5_000);
  it.socket.end(1006);
  expect(it.link.state).toMatchObject({ retryAt: it.clock.now() + 500 });
  const low = handLink({ random: () => 0.25 });
  await low.started();
  low.socket.end(1006);
  expect(low.link.state).toMatchObject({ retryAt: low.clock.now() + 125 });
});

describe("[CON6] a line that says nothing", () => {
  test("is asked after half of the server's own interval, and given up 10 s later, to come back as the same device", async () => {
    const it = handLink();
    await it.started();
    it.socket.greet();
    await it.clock.pass(25_000);
    expect(it.socket.all("ping").length).toBe(0);
    await it.clock.pass(5_000);
    expect(it.socket.all("ping").length).toBe(1);
    await it.clock.pass(9_000);
    expect(it.link.state.status).toBe("live");
    await it.clock.pass(1_000);
    expect(it.sockets[0]!.closedWith).toBe(4000);
    expect(it.link.state).toMatchObject({ status: "waiting", reason: "closed", code: 4000 });
    await it.clock.pass(500);
    expect(it.socket.url.searchParams.get("device_id")).toBe("d1");
  });

  test("lives on where anything is heard of it", async () => {
    const it = handLink();
    await it.started();
    it.socket.greet();
    await it.clock.pass(30_000);
    it.socket.say("typing.start", {});
    await it.clock.pass(25_000);
    expect(it.socket.all("ping").length).toBe(1);
    expect(it.link.state.status).toBe("live");
  });

  test("is asked after 5 s where an answer is waited for", async () => {
    const it = handLink();
    await it.started();
    it.socket.greet();
    it.wants.answer = true;
    await it.clock.pass(5_000);
    expect(it.socket.all("ping").length).toBe(1);
  });

  test("is asked for a cursor every 20 s where one is wanted", async () => {
    const it = handLink();
    await it.started();
    it.socket.greet();
    it.wants.cursor = true;
    await it.clock.pass(19_000);
    expect(it.socket.all("ping").length).toBe(0);
    await it.clock.pass(1_000);
    it.socket.reply("pong", { cursor: "e.1" }, it.socket.asked("ping"));
    await it.clock.pass(19_000);
    expect(it.socket.all("ping").length).toBe(1);
    await it.clock.pass(1_000);
    expect(it.socket.all("ping").length).toBe(2);
  });

  test("is asked at once when the page is looked at or the network is back, and after 5 s given up", async () => {
    for (const happening of ["wake", "online"] as const) {
      const it = handLink();
      await it.started();
      it.socket.greet();
      it.happen(happening);
      expect(it.socket.all("ping").length).toBe(1);
      await it.clock.pass(5_000);
      expect(it.link.state).toMatchObject({ status: "waiting", code: 4000 });
    }
  });

  test("is asked at once after the machine has slept", async () => {
    const it = handLink();
    await it.started();
    it.socket.greet();
    await it.clock.pass(1_000);
    it.sleep(8_000);
    await it.clock.pass(4_000);
    expect(it.socket.all("ping").length).toBe(1);
  });

  test("is given up within 2 s where the network is said to be gone, and waited for it", async () => {
    const it = handLink();
    await it.started();
    it.socket.greet();
    it.network.isOnline = false;
    it.happen("offline");
    // Under way since before.
    it.socket.event("conversation:c1", 1);
    await it.clock.pass(1_999);
    expect(it.link.state.status).toBe("live");
    await it.clock.pass(1);
    expect(it.link.state).toMatchObject({ status: "waiting", reason: "offline" });
    it.network.isOnline = true;
    it.happen("online");
    await it.settled();
    expect(it.sockets.length).toBe(2);
  });

  test("goes on where it answers although the network is said to be gone", async () => {
    const it = handLink();
    await it.started();
    it.socket.greet();
    it.happen("offline");
    it.socket.reply("pong", {}, it.socket.asked("ping"));
    await it.clock.pass(2_000);
    expect(it.link.state.status).toBe("live");
  });

  test("is looked after where it answered once although the network is said to be gone: what was under way is no sign of life", async () => {
    const it = handLink();
    await it.started();
    it.socket.greet();
    it.network.isOnline = false;
    it.happen("offline");
    it.socket.reply("pong", {}, it.socket.asked("ping"));
    await it.clock.pass(20_000);
    expect(it.states.find(({ status }) => status === "waiting")).toMatchObject({ reason: "offline" });
  });

  test("is given up as soon where an answer is waited for that may take long, and the network is said to be gone", async () => {
    const it = handLink();
    await it.started();
    it.socket.greet();
    it.wants.patience = true;
    it.network.isOnline = false;
    it.happen("offline");
    await it.clock.pass(2_000);
    expect(it.link.state).toMatchObject({ status: "waiting", reason: "offline" });
  });

  test("is given up where it never greets", async () => {
    const it = handLink();
    await it.started();
    await it.clock.pass(15_000);
    expect(it.link.state).toMatchObject({ status: "waiting", reason: "refused" });
    expect(it.sockets[0]!.closedWith).toBe(4000);
  });
});

describe("[AUTH1] [AUTH3] tokens", () => {
  const greetNobody = { user_id: null, authenticated: false, auth_timeout_ms: 10_000 };
  const success = (lifeMs: number | null) => ({
    user_id: "anna",
    device_id: "d1",
    roles: [],
    expires_at: lifeMs === null ? null : new Date(Date.UTC(2026, 0, 2, 3, 4, 5) + lifeMs).toISOString(),
    acked_cursor: null,
  });

  test("go by message, never into the URL; one that is good is not asked for again", async () => {
    const whys: string[] = [];
    const since = { cursor: "e.1", seen: { "user:anna": 3, "conversation:c1": 4 } };
    const getToken = (why: string) => `t${whys.push(why)}`;
    const it = handLink({ getToken, since: () => since });
    await it.started();
    it.socket.greet(greetNobody);
    expect(it.socket.asked("authenticate").payload).toEqual({
      token: "t1",
      since: { cursor: "e.1", seen: { "user:anna": 3 } },
    });
    // Where the application says by a header who it is, nothing but the URL can say this.
    expect(it.socket.url.href).toBe("wss://chat.example.com/ws?x=1&since=e.1");
    it.socket.reply("auth.success", success(600_000), it.socket.asked("authenticate"));
    expect(it.link.state.status).toBe("live");
    it.socket.end(1006);
    await it.clock.pass(500);
    it.socket.greet(greetNobody);
    expect(it.socket.asked("authenticate").payload.token).toBe("t1");
    it.socket.reply("auth.success", success(50_000), it.socket.asked("authenticate"));
    await it.clock.pass(34_000);
    it.socket.end(1006);
    await it.clock.pass(500);
    it.socket.greet(greetNobody);
    expect(it.socket.asked("authenticate").payload.token).toBe("t2");
    expect(whys).toEqual(["connect", "expiring"]);
  });

  test("are sent no more where the request had one in a header of the application's, and are refreshed all the same", async () => {
    const it = handLink({ getToken: (why) => why });
    await it.started();
    it.socket.greet();
    expect(it.link.state.status).toBe("live");
    expect(it.socket.sent).toEqual([]);
    it.socket.say("auth.expiring", { expires_at: "2026-01-02T03:05:05.000Z" });
    await it.settled();
    expect(it.socket.asked("authenticate").payload).toEqual({ token: "expiring" });
  });

  test("are refreshed when the server says so, again and again until one is taken", async () => {
    const whys: string[] = [];
    let fails = true;
    const getToken = (why: string) => {
      whys.push(why);
      if (why !== "connect" && fails) throw new Error("the backend is away");
      return `t${whys.length}`;
    };
    const it = handLink({ getToken });
    await it.started();
    it.socket.greet(greetNobody);
    it.socket.reply("auth.success", success(120_000), it.socket.asked("authenticate"));
    it.socket.say("auth.expiring", { expires_at: "2026-01-02T03:06:05.000Z" });
    await it.clock.pass(3_000);
    expect(whys).toEqual(["connect", "expiring", "expiring", "expiring"]);
    expect(it.errors.length).toBe(3);
    fails = false;
    await it.clock.pass(4_000);
    expect(it.socket.asked("authenticate").payload).toEqual({ token: "t5" });
    it.socket.reply("auth.failed", { code: "token_invalid", retryable: false }, it.socket.asked("authenticate"));
    await it.clock.pass(8_000);
    expect(whys.at(-1)).toBe("refused");
    it.socket.reply("auth.success", success(240_000), it.socket.asked("authenticate"));
    expect(it.link.state.status).toBe("live");
    expect(it.sockets.length).toBe(1);
  });

  test("that cannot be had, or for which there is no answer, are waited for", async () => {
    let answers: ((token: string) => void)[] = [];
    const it = handLink({ getToken: () => new Promise((resolve) => answers.push(resolve)) });
    await it.started();
    expect(it.link.state.status).toBe("connecting");
    await it.clock.pass(30_000);
    expect(it.link.state).toMatchObject({ status: "waiting", reason: "no_token" });
    expect(it.sockets.length).toBe(0);
    await it.clock.pass(500);
    answers.pop()!("t1");
    await it.settled();
    expect(it.sockets.length).toBe(1);
    answers = [];
    const empty = handLink({ getToken: () => undefined as never });
    await empty.started();
    expect(empty.link.state).toMatchObject({ status: "waiting", reason: "no_token" });
    expect(String(empty.errors[0])).toContain("getToken");
  });

  test("that are refused are asked for anew, three times; what no token mends stops it", async () => {
    const whys: string[] = [];
    const it = handLink({ getToken: (why) => `t${whys.push(why)}` });
    await it.started();
    for (let index = 0; index < 3; index++) {
      it.socket.greet(greetNobody);
      it.socket.reply("auth.failed", { code: "token_expired", retryable: true }, it.socket.asked("authenticate"));
      it.socket.end(4004);
      await it.clock.pass(5_000);
    }
    expect(whys).toEqual(["connect", "refused", "refused"]);
    expect(it.link.state).toEqual({
      status: "stopped",
      reason: "authentication",
      code: 4004,
      message: "token_expired",
    });
    const disabled = handLink({ getToken: () => "t" });
    await disabled.started();
    disabled.socket.greet(greetNobody);
    disabled.socket.reply(
      "auth.failed",
      { code: "user_disabled", retryable: false },
      disabled.socket.asked("authenticate"),
    );
    disabled.socket.end(4004);
    expect(disabled.link.state).toMatchObject({ status: "stopped", reason: "authentication" });
  });

  test("that the server limits are waited for; one that stands alone is not asked for anew", async () => {
    const it = handLink({ getToken: () => "t", random: () => 0 });
    await it.started();
    it.socket.greet(greetNobody);
    const limited = { code: "rate_limited", message: "slower", retryable: true, retry_after_ms: 9_000 };
    it.socket.reply("error", limited, it.socket.asked("authenticate"));
    expect(it.link.state).toMatchObject({ status: "waiting", retryAt: it.clock.now() + 9_000 });
    const fixed = handLink({ token: "t" });
    await fixed.started();
    fixed.socket.greet(greetNobody);
    fixed.socket.reply("auth.success", success(1_000), fixed.socket.asked("authenticate"));
    fixed.socket.end(4104);
    expect(fixed.link.state).toMatchObject({ status: "stopped", reason: "authentication", code: 4104 });
  });

  test("are refreshed once a second at most, whatever the server says of each", async () => {
    let asked = 0;
    const it = handLink({ getToken: () => `t${++asked}` });
    await it.started();
    it.socket.greet();
    const expire = () => it.socket.say("auth.expiring", { expires_at: "2026-01-02T03:05:05.000Z" });
    const answer = () => it.socket.reply("auth.success", success(1), it.socket.asked("authenticate"));
    for (let times = 0; times < 100; times++) {
      expire();
      await it.settled();
    }
    answer();
    for (let times = 0; times < 100; times++) {
      expire();
      await it.settled();
    }
    expect(it.socket.all("authenticate")).toHaveLength(1);
    await it.clock.pass(1_000);
    expire();
    await it.settled();
    expect(it.socket.all("authenticate")).toHaveLength(2);
  });

  test("4104 and 4003 ask for another one first; where one is wanted and nobody gives any it stops", async () => {
    const whys: string[] = [];
    const it = handLink({ getToken: (why) => `t${whys.push(why)}` });
    await it.started();
    it.socket.greet(greetNobody);
    it.socket.reply("auth.success", success(600_000), it.socket.asked("authenticate"));
    it.socket.end(4104);
    await it.clock.pass(500);
    expect(whys).toEqual(["connect", "expiring"]);
    it.socket.greet(greetNobody);
    it.socket.end(4003);
    expect(it.link.state).toMatchObject({ status: "waiting", reason: "no_token", code: 4003 });
    const nobody = handLink();
    await nobody.started();
    nobody.socket.greet(greetNobody);
    expect(nobody.link.state).toEqual({
      status: "stopped",
      reason: "authentication",
      code: 4004,
      message: "The server wants a token.",
    });
    expect(nobody.socket.closedWith).toBe(1000);
  });
});

test("[PRE1] it stops with 1000, and nothing that comes after is taken", async () => {
  const it = handLink();
  await it.started();
  it.socket.greet();
  const { socket } = it;
  const closed = it.link.stop("stopped");
  expect(socket.closedWith).toBe(1000);
  const count = it.messages.length;
  socket.say("typing.start", {});
  expect(it.messages.length).toBe(count);
  socket.end(1000);
  await closed;
  expect(it.link.state).toEqual({ status: "stopped", reason: "stopped" });
  await it.clock.pass(3_600_000);
  expect(it.sockets.length).toBe(1);
  expect(it.clock.waiting()).toBe(0);
});

test("it leaves with 4000 to come back", async () => {
  const it = handLink();
  await it.started();
  it.socket.greet();
  it.link.reconnect();
  expect(it.socket.closedWith).toBe(4000);
  await it.clock.pass(500);
  expect(it.sockets.length).toBe(2);
});

test("a URL that is none is told at once, and what is no message says nothing", async () => {
  expect(() => handLink({ url: "chat.example.com" })).toThrow(TypeError);
  const it = handLink();
  await it.started();
  for (const text of ["", "{", "null", "[]", '"text"', "{}"]) it.socket.sayText(text);
  it.socket.greet();
  expect(it.messages.map(({ type }) => type)).toEqual(["connected"]);
});
