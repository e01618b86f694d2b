/** Makes a device do what clients do while a run lasts: it chats, marks, types, calls, and makes trouble as clients do. */
import { CallFlow } from "./calls.ts";
import { Changes } from "./changes.ts";
import { Pace, type PaceOptions } from "./pace.ts";

/** How often each thing is done, as parts of the whole; 0: never. */
export interface Behaviour {
  send: number;
  /** Several things at once, without waiting for any of them [ENV7]. */
  burst: number;
  /** Sends once more what was acknowledged, as an impatient client does. */
  repeat: number;
  mark: number;
  type: number;
  call: number;
  status: number;
  acknowledge: number;
  ping: number;
  drop: number;
  leave: number;
  /** Stops reading for a while. */
  stall: number;
  /** Drops the line, and once more in the middle of the replay that follows. */
  dropReplay: number;
  /** Says anything that may be said of oneself, and asks how others are. */
  presence: number;
  /** Edits a message of its own, often one that another device of the user edits too [MSG2]. */
  edit: number;
  delete: number;
  /** Reacts to anybody's message, or takes it back [MSG3]. */
  react: number;
  /** Reads a page of the log [LOG8]. */
  page: number;
  /** Says goodbye and comes back only after a while: what is said meanwhile is missed [BAK3]. */
  nap: number;
  /** Sends an event of the application's own, of a type that the service is configured with [MSG4]. */
  event: number;
}

export const usualBehaviour: Behaviour = {
  send: 50,
  burst: 3,
  repeat: 2,
  mark: 10,
  type: 8,
  call: 3,
  status: 1,
  acknowledge: 6,
  ping: 10,
  drop: 2,
  leave: 1,
  stall: 1,
  dropReplay: 2,
  presence: 0,
  edit: 6,
  delete: 2,
  react: 6,
  page: 2,
  nap: 0,
  event: 4,
};

/** Edits, deletions and reactions above all, and looks at what they have made of the log. */
export const changesBehaviour: Behaviour = {
  ...usualBehaviour,
  ...{ send: 20, burst: 6, type: 3, call: 1, ping: 6 },
  ...{ edit: 25, delete: 8, react: 25, page: 12 },
};

/** Comings and goings, and statuses of every kind, above all. */
export const presenceBehaviour: Behaviour = {
  ...usualBehaviour,
  ...{ send: 10, mark: 2, type: 3, call: 2, acknowledge: 2, ping: 4, dropReplay: 1 },
  ...{ drop: 8, leave: 8, presence: 40 },
};

export interface TrafficOptions extends PaceOptions {
  /** Members of each of the device's conversations. */
  membersOf: (conversationId: string) => string[];
  behaviour: Behaviour;
  contentLengthMax: number;
  ownEvents: Record<string, { logged: boolean }>;
}

const burst = { least: 3, most: 10 };
const inBursts = ["send", "send", "send", "repeat", "mark", "ping", "edit", "delete", "react", "page"] as const;
/** One in so many repeats what it has changed last instead of what it has sent. */
const repeatChangeChance = 0.5;
const pageMax = 20;
const pageTypes = [["message.new"], ["message.read", "message.reaction"], ["message.new", "poll.vote"]];
const napMs = { least: 1_000, most: 6_000 };
const stallMs = { least: 300, most: 2_500 };
const ownStatuses = ["online", "away", "busy"] as const;
const statusMs = { least: 100, most: 3_000 };

export class Traffic {
  readonly calls: CallFlow;
  readonly #changes: Changes;
  readonly #pace: Pace;
  readonly #typingIn = new Set<string>();
  #sent = 0;
  #events = 0;
  #last: { conversation_id: string; client_message_id: string; content: string } | null = null;

  constructor(private readonly options: TrafficOptions) {
    this.calls = new CallFlow(options.device, options.random.fork("calls"));
    this.#pace = new Pace(options);
    this.#changes = new Changes({ ...options, random: options.random.fork("changes") });
  }

  /** Messages so far. */
  get sent(): number {
    return this.#sent;
  }

  run(): Promise<void> {
    return this.#pace.run(() => this.#act(this.options.random.weighed(this.options.behaviour)));
  }

  /** Begins nothing more: what began ends by itself or in `settle`. */
  stop(): void {
    this.#pace.stop();
  }

  /** Ends what the device has begun. @returns whether nothing of it is left */
  async settle(): Promise<boolean> {
    const { device } = this.options;
    device.resumeReading();
    for (const conversation_id of [...this.#typingIn]) {
      const reply = await device.request("typing.stop", { conversation_id });
      if (reply !== null) this.#typingIn.delete(conversation_id);
    }
    for (const callId of [...this.calls.begun]) await this.calls.hangUp(callId);
    return this.#typingIn.size === 0 && this.calls.begun.size === 0 && device.hasSentAll;
  }

  #act(what: keyof Behaviour): void {
    const { device, random } = this.options;
    const conversationId = random.pick(device.conversationIds);
    switch (what) {
      case "send":
        return this.#send(conversationId);
      case "burst":
        for (let left = random.between(burst.least, burst.most); left > 0; left--) this.#actInBurst();
        return;
      case "repeat":
        return this.#repeat();
      case "mark":
        return this.#mark(conversationId);
      case "type":
        return this.#type(conversationId);
      case "call":
        return this.#call(conversationId);
      case "status":
        return void device.request("presence.update", { status: random.pick(ownStatuses) });
      case "acknowledge":
        return void device.acknowledge();
      case "ping":
        return void device.ping();
      case "drop":
        return device.drop();
      case "leave":
        return device.leave();
      case "stall":
        return this.#stall();
      case "dropReplay":
        device.dropsReplayAfter = random.between(1, 20);
        return device.drop();
      case "presence":
        return void this.#speakOfPresence(conversationId);
      case "edit":
        return this.#changes.edit(conversationId);
      case "delete":
        return this.#changes.delete(conversationId);
      case "react":
        return this.#changes.react(conversationId);
      case "page":
        return this.#readPage(conversationId);
      case "nap":
        return this.#nap();
      case "event":
        return this.#sendEvent(conversationId);
      default:
        return what satisfies never;
    }
  }

  #actInBurst(): void {
    const { behaviour, random } = this.options;
    const what = random.pick(inBursts);
    if (behaviour[what] > 0) this.#act(what);
  }

  #speakOfPresence(conversationId: string): Promise<unknown> {
    const { device, random, membersOf } = this.options;
    if (random.chance(0.2)) return device.request("presence.query", { user_ids: membersOf(conversationId) });
    if (random.chance(0.3))
      return device.request("presence.update", { automatic: true, status: random.pick(ownStatuses) });
    const soon = new Date(Date.now() + random.between(statusMs.least, statusMs.most)).toISOString();
    return device.request("presence.update", {
      status: random.pick([...ownStatuses, "invisible"]),
      ...(random.chance(0.5) ? { status_text: random.pick(["at lunch", "on a train", null]) } : {}),
      ...(random.chance(0.3) ? { expires_at: random.chance(0.8) ? soon : null } : {}),
    });
  }

  #send(conversation_id: string): void {
    const { device, random, contentLengthMax } = this.options;
    const client_message_id = `${device.deviceId}-${++this.#sent}`;
    // Most are short, some are as long as may be.
    const length = Math.floor(contentLengthMax ** random.next());
    this.#last = { conversation_id, client_message_id, content: `${client_message_id} ${"x".repeat(length)}` };
    device.sendMessage(this.#last);
  }

  #repeat(): void {
    const { device, random } = this.options;
    if (random.chance(repeatChangeChance) && this.#changes.repeat()) return;
    if (this.#last !== null) void device.request("message.send", this.#last);
  }

  #readPage(conversationId: string): void {
    const { device, random } = this.options;
    const seq = random.between(1, (device.newest.get(conversationId)?.seq ?? 0) + 1);
    const place = random.pick([{}, { before_seq: seq }, { after_seq: seq - 1 }]);
    const limit = random.between(1, pageMax);
    const types = random.chance(0.3) ? { types: random.pick(pageTypes) } : {};
    void device.request("history", { topic: `conversation:${conversationId}`, ...place, limit, ...types });
  }

  #mark(conversation_id: string): void {
    const { device, random } = this.options;
    const newest = device.newest.get(conversation_id);
    if (newest === undefined) return;
    const until = random.chance(0.5) ? { up_to_seq: newest.seq } : { message_ids: [newest.id] };
    if (random.chance(0.5)) void device.request("mark.delivered", { conversation_id, ...until });
    else void device.request("mark.read", { conversation_id, ...until, private: random.chance(0.2) });
  }

  #type(conversation_id: string): void {
    const { device, random } = this.options;
    const stops = this.#typingIn.has(conversation_id) && random.chance(0.5);
    if (stops) this.#typingIn.delete(conversation_id);
    else this.#typingIn.add(conversation_id);
    void device.request(stops ? "typing.stop" : "typing.start", { conversation_id });
  }

  #call(conversationId: string): void {
    const { device, random, membersOf } = this.options;
    const others = membersOf(conversationId).filter((userId) => userId !== device.userId);
    if (others.length > 0) void this.calls.offer({ toUserId: random.pick(others), conversationId });
  }

  #stall(): void {
    const { device, random } = this.options;
    device.pause();
    setTimeout(() => device.resumeReading(), random.between(stallMs.least, stallMs.most)).unref();
  }

  #sendEvent(conversation_id: string): void {
    const { device, random, ownEvents } = this.options;
    const types = Object.keys(ownEvents);
    if (types.length === 0) return;
    const client_event_id = `${device.deviceId}-e${++this.#events}`;
    const type = random.pick(types);
    void device.request("event.send", { conversation_id, type, payload: { choice: this.#events }, client_event_id });
  }

  #nap(): void {
    const { device, random } = this.options;
    device.sleep();
    setTimeout(() => this.#pace.isRunning && device.wake(), random.between(napMs.least, napMs.most)).unref();
  }
}
