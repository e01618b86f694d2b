/** Drives a population of clients against the service: lets them live, brings everything to rest, and asks the judge. */
import { positionOf } from "../cursors.ts";
import { Backend } from "./backend.ts";
import { Device } from "./device.ts";
import { type History, type Losses, Recorder, type TrueStatus } from "./history.ts";
import { judge, type Violation } from "./judge.ts";
import { createRandom, type Random } from "./random.ts";
import { type Behaviour, Traffic, usualBehaviour } from "./traffic.ts";

/**
 * Tells the judge that a lone node forgets its calls while `work` is done, and whether the log may lose what was acknowledged
 * from its beginning on.
 */
export type During = (work: () => Promise<void>, options?: Losses) => Promise<void>;

/** Brings what goes wrong around the clients: restarts, partitions. */
export interface Faults {
  start(random: Random, during: During): void;
  /** Whether what the run is for has happened: on a busy machine that may take longer than the clients were to live. */
  isEnough?(): boolean;
  /** Ends; resolves when the service is whole again. */
  stop(): Promise<void>;
}

export interface CheckerOptions {
  /** Of one service: each connection takes one by chance. */
  urls: string[];
  seed: number;
  users?: number;
  /** One user in three has as many; the others have one. */
  devicesMax?: number;
  conversations?: number;
  /** How long the clients live, ms. */
  durationMs?: number;
  /** Ends sooner once so many messages were sent. */
  messagesMax?: number;
  behaviour?: Partial<Behaviour>;
  /** Between two actions of a device. */
  pauseMs?: { least: number; most: number };
  contentLengthMax?: number;
  faults?: Faults;
  /**
   * Of a service that has `push.after` as long, ms: a backend takes what was missed, publishes and moderates, and some users are
   * away at times, also at the end [BAK3]. Null: there is none.
   */
  pushAfterMs?: number | null;
  /** Users without any device, whom the backend lets into conversations and out of them [MEM1]. */
  ghosts?: number;
  /** Types that the service is configured to let clients send [MSG4]. */
  ownEvents?: Record<string, { logged: boolean }>;
  /** Whether what a rule has found is none where these faults are; it is not waited for either. */
  forgives?: (violation: Violation) => boolean;
  /** How long rest may take to come, ms. */
  patienceMs?: number;
}

export interface Verdict {
  seed: number;
  violations: Violation[];
  history: History;
}

const levelLookMs = 250;
const membersMax = 500;
/** Conversations. */
const hermitIn = 2;
/** How often those who nap do: some seconds apart. */
const napPart = 8;

export async function check(options: CheckerOptions): Promise<Verdict> {
  const population = new Population(options);
  await population.begin();
  await population.live();
  const violations = await population.comeToRest();
  population.end();
  return { seed: options.seed, violations, history: population.recorder.history };
}

class Population {
  readonly recorder = new Recorder();
  readonly #random: Random;
  readonly #patienceMs: number;
  readonly #devices: Device[] = [];
  readonly #traffic = new Map<Device, Traffic>();
  #hermit = "";
  #backend: { device: Device; backend: Backend } | null = null;

  constructor(private readonly options: CheckerOptions) {
    this.#random = createRandom(options.seed);
    this.#patienceMs = options.patienceMs ?? 15_000;
    const { users = 20, devicesMax = 2, conversations = 8, pushAfterMs = null, ghosts = 2 } = options;
    const { history } = this.recorder;
    history.pushAfterMs = pushAfterMs;
    history.ownEvents = options.ownEvents ?? {};
    // Names differ from run to run, so that one service can be looked at more than once, also with one seed.
    const run = crypto.randomUUID().slice(0, 8);
    const userIds = Array.from({ length: users }, (_, index) => `u${index + 1}-${run}`);
    history.conversations = Array.from({ length: conversations }, (_, index) => ({
      conversationId: `c${index + 1}-${run}`,
      // The first has everybody; each user is in two more or so.
      userIds: userIds.filter(() => index === 0 || this.#random.chance(Math.min(0.5, 2 / conversations + 0.1))),
    }));
    for (const [index, userId] of userIds.entries()) {
      const devices = index % 3 === 0 ? devicesMax : 1;
      for (let device = 1; device <= devices; device++)
        this.#addDevice({
          ...{ userId, deviceId: `${userId}-d${device}` },
          random: this.#random.fork(`${index} ${device}`),
          naps: pushAfterMs !== null && index % 3 === 1,
        });
    }
    if (pushAfterMs === null) return;
    history.ghosts = Array.from({ length: ghosts }, (_, index) => index + 1).map((index) => `ghost${index}-${run}`);
    this.#addBackend(`backend-${run}`);
    this.#hermit = `hermit-${run}`;
    for (const { userIds } of history.conversations.slice(0, hermitIn)) userIds.push(this.#hermit);
  }

  /** Everybody is there before anything happens, so that everything that happens is owed to all. */
  async begin(): Promise<void> {
    if (this.#backend !== null) await this.#admitHermit(this.#backend.device);
    for (const device of this.#devices) if (device.state === "new") device.connect();
    await Promise.all(this.#devices.map((device) => device.until(() => device.state === "live", this.#patienceMs)));
    await this.#becomeLevel();
  }

  /** Somebody is a member of some conversations and never has a device: of everything that is said there it is to be told. */
  async #admitHermit(backend: Device): Promise<void> {
    backend.connect();
    await backend.until(() => backend.state === "live", this.#patienceMs);
    for (const { conversationId, userIds } of this.recorder.history.conversations) {
      if (!userIds.includes(this.#hermit)) continue;
      await backend.request("admin.members.add", { conversation_id: conversationId, user_ids: [this.#hermit] });
    }
  }

  async live(): Promise<void> {
    const { durationMs = 10_000, messagesMax = Number.POSITIVE_INFINITY, faults } = this.options;
    const { memoryLosses, logLosses } = this.recorder.history;
    faults?.start(this.#random.fork("faults"), async (work, { losesLog = false, losesMemoryOf } = {}) => {
      if (losesLog) logLosses.push({ from: this.recorder.next() });
      const loss = { from: this.recorder.next(), to: Number.POSITIVE_INFINITY, of: losesMemoryOf };
      memoryLosses.push(loss);
      await work();
      loss.to = this.recorder.next();
    });
    const traffics = [...this.#traffic.values()];
    const running = [...traffics, ...(this.#backend === null ? [] : [this.#backend.backend])].map((it) => it.run());
    let timer: Timer | undefined;
    const ended = new Promise<void>((resolve) => {
      const endsAt = performance.now() + durationMs;
      timer = setInterval(() => {
        const sent = traffics.reduce((sum, traffic) => sum + traffic.sent, 0);
        const isEnough = faults?.isEnough?.() !== false;
        if (isEnough && (performance.now() >= endsAt || sent >= messagesMax)) resolve();
      }, 50);
    });
    await ended;
    clearInterval(timer);
    for (const traffic of traffics) traffic.stop();
    this.#backend?.backend.stop();
    await Promise.all(running);
    await faults?.stop();
  }

  /** Ends what was begun, then waits until the judge finds nothing that may still come. */
  async comeToRest(): Promise<Violation[]> {
    for (const device of this.#devices.filter(({ state }) => state === "asleep"))
      if (this.#random.chance(0.5)) device.signOff();
      else device.wake();
    await this.#settle();
    // Once more through the log: from the cursor or from what was acknowledged, it must end the same.
    for (const device of this.#devices) if (this.#random.chance(0.3)) device.drop();
    await this.#settle();
    const statuses = await this.#declareStatuses();
    this.recorder.history.rest = { order: this.recorder.next(), statuses };
    const endsAt = performance.now() + this.#patienceMs;
    for (;;) {
      await this.#becomeLevel();
      await this.#takeStock();
      const violations = judge(this.recorder.history).filter((it) => this.options.forgives?.(it) !== true);
      if (violations.length === 0 || performance.now() > endsAt) return violations;
      // Looks again: what is missing may be on its way through the cluster; what is wrong stays wrong.
      await Bun.sleep(levelLookMs);
    }
  }

  end(): void {
    for (const device of this.#devices) device.signOff();
  }

  #addDevice({ userId, deviceId, random, naps }: { userId: string; deviceId: string; random: Random; naps: boolean }) {
    const { urls, behaviour, pauseMs = { least: 20, most: 250 }, contentLengthMax = 4_000 } = this.options;
    const { conversations } = this.recorder.history;
    const conversationIds = conversations.filter((it) => it.userIds.includes(userId)).map((it) => it.conversationId);
    const device = new Device({
      userId,
      deviceId,
      conversationIds,
      urls,
      recorder: this.recorder,
      random: random.fork("device"),
      onEvent: (from, message) => this.#traffic.get(from)?.calls.note(message),
    });
    this.#devices.push(device);
    this.#traffic.set(
      device,
      new Traffic({
        device,
        membersOf: (conversationId) => conversations.find((it) => it.conversationId === conversationId)!.userIds,
        behaviour: { ...usualBehaviour, ...behaviour, ...(naps ? { nap: napPart } : {}) },
        random: random.fork("traffic"),
        pauseMs,
        contentLengthMax,
        ownEvents: this.options.ownEvents ?? {},
      }),
    );
  }

  #addBackend(userId: string): void {
    const { urls, pauseMs = { least: 20, most: 250 } } = this.options;
    const random = this.#random.fork("backend");
    const device = new Device({
      ...{ userId, deviceId: `${userId}-d1`, conversationIds: [], urls, recorder: this.recorder },
      random: random.fork("device"),
      backend: { topics: ["missed"] },
    });
    const { conversations, ghosts = [] } = this.recorder.history;
    const pickMessage = (conversationId: string) => {
      const known = random.pick([...this.#traffic.keys()]).recent.get(conversationId) ?? [];
      return known.length === 0 ? null : random.pick(known).messageId;
    };
    this.#devices.push(device);
    this.#backend = { device, backend: new Backend({ device, random, pauseMs, conversations, ghosts, pickMessage }) };
  }

  get #present(): Device[] {
    return this.#devices.filter((device) => device.state !== "gone");
  }

  /** Everybody is live, everything sent is acknowledged, nobody types or calls; or time is up and the judge will tell. */
  async #settle(): Promise<void> {
    const endsAt = performance.now() + this.#patienceMs;
    const left = () => Math.max(0, endsAt - performance.now());
    await Promise.all(
      this.#present.map(async (device) => {
        device.dropsReplayAfter = null;
        device.resumeReading();
        while (left() > 0) {
          await device.until(() => device.state === "live" && device.hasSentAll, left());
          const traffic = this.#traffic.get(device);
          if (traffic === undefined ? device.state === "live" : await traffic.settle()) return;
          await Bun.sleep(Math.min(left(), levelLookMs));
        }
      }),
    );
  }

  /** Each user's first device says how its user is; some users leave altogether. */
  async #declareStatuses(): Promise<Record<string, TrueStatus>> {
    const statuses: Record<string, TrueStatus> = { [this.#hermit]: "offline" };
    for (const userId of new Set([...this.#traffic.keys()].map((device) => device.userId))) {
      const devices = this.#present.filter((device) => device.userId === userId);
      const leaves = this.#random.chance(0.25);
      const status = this.#random.pick(["online", "away", "busy"] as const);
      // Takes back what any of them has said of itself alone: it is not how the user is.
      if (!leaves) for (const device of devices) await this.#declare(device, { automatic: true, status: "online" });
      const alone = { status_text: null, status_emoji: null, expires_at: null };
      if (devices[0] !== undefined && !leaves) await this.#declare(devices[0], { status, ...alone });
      if (leaves) for (const device of devices) device.signOff();
      await Promise.all(devices.map((device) => device.until(() => !leaves || !device.isConnected, this.#patienceMs)));
      statuses[userId] = leaves || devices.length === 0 ? "offline" : status;
    }
    return statuses;
  }

  /** Says it until it is taken: what was refused, or never answered, is not how the user is. */
  async #declare(device: Device, said: { status: TrueStatus; automatic?: true }): Promise<void> {
    const endsAt = performance.now() + this.#patienceMs;
    for (let left = this.#patienceMs; left > 0; left = endsAt - performance.now()) {
      await device.until(() => device.state === "live", left);
      const reply = await device.request("presence.update", said);
      if (reply?.type === "ack") return;
      if (reply !== null) await Bun.sleep(reply.payload.retry_after_ms ?? levelLookMs);
    }
  }

  /** Pings until every cursor has reached what anybody has been told of. */
  async #becomeLevel(): Promise<void> {
    const endsAt = performance.now() + this.#patienceMs;
    for (;;) {
      await Promise.all(this.#present.map((device) => device.ping()));
      const cursors = this.#present.map((device) => (device.cursor === null ? 0 : positionOf(device.cursor)));
      if (Math.min(...cursors) >= Math.max(...cursors) || performance.now() > endsAt) return;
      await Bun.sleep(levelLookMs);
    }
  }

  /** Looks at the present as the service has it, and at the whole log of every conversation. */
  async #takeStock(): Promise<void> {
    const { conversations, ghosts = [] } = this.recorder.history;
    await Promise.all(this.#present.map((device) => device.request("subscribe", device.subscription)));
    await Promise.all(
      conversations.flatMap(({ conversationId }): unknown[] => {
        const witness = this.#present.find((device) => device.conversationIds.includes(conversationId));
        if (witness === undefined) return [];
        const log = readLog(witness, `conversation:${conversationId}`);
        if (ghosts.length === 0) return [log];
        return [log, witness.request("members", { conversation_id: conversationId, limit: membersMax })];
      }),
    );
  }
}

async function readLog(device: Device, topic: string): Promise<void> {
  for (let afterSeq = 0; ; ) {
    const page = await device.request("history", { topic, after_seq: afterSeq, limit: 200 });
    if (page?.type !== "history" || !page.payload.has_more) return;
    afterSeq = page.payload.events.at(-1).seq;
  }
}
