/** Plays what happens around nodes on a model log, in whatever order a schedule has it [LOG3] [LOG4]. */
import type { Sequencer } from "../../src/broadcast/sequencer.ts";
import type { AppendResult, LoggedEvent, NewEvent } from "../../src/storage/ports.ts";
import { Backend } from "./feeds.ts";
import { type LogFlaw, ModelLog } from "./model-log.ts";
import { Client, Node, type Since, type Surroundings } from "./nodes.ts";
import type { Action, Play } from "./schedule.ts";
import { Turns } from "./turns.ts";

/** Happens once, at any moment. Names of topics are single letters; an event for each. */
export type Happening =
  /** Of a node that is not in the model; its words on the bus may be late, turned round or lost. */
  | { kind: "append"; topics: string; isAbandoned?: true }
  /** By a node of the model; what comes from one source keeps its order. */
  | { kind: "publish"; node: string; topics: string; source?: string }
  | { kind: "repair"; node: string }
  | { kind: "connect"; node: string; topics: string; since?: "start" }
  /** A backend follows the whole log by a node, from its beginning. */
  | { kind: "feed"; node: string }
  /** The node forgets topics that nobody hears. */
  | { kind: "sweep"; node: string }
  /** The first client's connection breaks; it comes back with the cursor it was told and what it has seen above that. */
  | { kind: "return"; node: string };

export interface Scenario {
  nodes: string[];
  /** Events that are there at the start, and seen by all; one for each topic named. */
  logged?: string;
  happenings: Happening[];
  isBusSilent?: true;
  /** How often the engine may be away for a moment. */
  refusals?: number;
  /** So many run out while something else can go on (1), the others when all is quiet: who asks again and again would do so for ever. */
  timers?: number;
}

const newEvent = (topic: string, id: string): NewEvent => ({ id, topic, type: "t", payload: "{}", createdAt: 0 });

export class World implements Play, Surroundings {
  readonly log: ModelLog;
  readonly #turns = new Turns();
  readonly #nodes = new Map<string, Node>();
  readonly #ports = new Map<string, ReturnType<ModelLog["portOf"]>>();
  readonly #clients: Client[] = [];
  readonly #backends: Backend[] = [];
  #happenings: { name: string; happening: Happening }[];
  #words: { to: string; event: LoggedEvent }[] = [];
  /** Holds what somebody will do who has left something. */
  #later: Action[] = [];
  #passed = 0;
  #fault: string | null = null;

  constructor(
    readonly scenario: Scenario,
    flaw: LogFlaw | null = null,
  ) {
    this.log = new ModelLog(flaw, scenario.refusals);
    for (const [index, topic] of [...(scenario.logged ?? "")].entries()) this.#logAtOnce(newEvent(topic, `e${index}`));
    this.#turns.start();
    for (const name of scenario.nodes) this.#nodes.set(name, new Node(name, this));
    for (const node of this.#nodes.values()) void node.sequencer.start();
    const { refusals } = this.log;
    this.log.refusals = 0;
    this.#drain();
    this.log.refusals = refusals;
    this.#happenings = scenario.happenings.map((happening, index) => ({ name: nameOf(happening, index), happening }));
  }

  readonly fail = (what: string): void => {
    this.#fault ??= what;
  };

  /** Of what a node's connections read; counted apart from what the node asks for itself. */
  portOf(node: string) {
    const port = this.#ports.get(node) ?? this.log.portOf(node, `${node}'s connections`);
    this.#ports.set(node, port);
    return port;
  }

  /** The others are told by the bus. */
  tell(from: string, event: LoggedEvent): void {
    for (const backend of this.#backends) backend.wake();
    if (this.scenario.isBusSilent) return;
    for (const to of this.#nodes.keys()) if (to !== from) this.#words.push({ to, event });
  }

  enabled(): Action[] {
    const actions = [...this.#begun(), ...this.#back(), ...this.log.actions(), ...this.#heard()];
    // Somebody may ask again and again until another has come so far.
    if (this.#passed < (this.scenario.timers ?? 1) || actions.length === 0) actions.push(...this.#timed());
    return actions.map((action) => ({
      ...action,
      run: () => {
        action.run();
        this.#turns.settle();
      },
    }));
  }

  fault(): string | null {
    for (const client of this.#clients) if (client.node.clients.has(client)) this.#fault ??= client.fault();
    for (const backend of this.#backends) this.#fault ??= backend.fault();
    return this.#fault;
  }

  /** Nothing more is lost or begun; each node asks the log now and then, and all must come right. */
  finish(): string | null {
    this.log.refusals = 0;
    for (let round = 0; round < 4; round++) {
      this.#drain();
      for (const { sequencer } of this.#nodes.values()) this.#repair(sequencer);
      for (const backend of this.#backends) backend.wake();
      this.#turns.settle();
    }
    this.#drain();
    this.fault();
    for (const { name, sequencer, counts } of this.#nodes.values()) {
      if (sequencer.safePosition !== this.log.end) this.fail(`${name} stays at ${sequencer.safePosition}`);
      for (const [invariant, count] of Object.entries(counts.broken))
        if (count > 0) this.fail(`${name} has found ${invariant} broken ${count} times`);
    }
    for (const client of this.#clients) {
      if (!client.node.clients.has(client)) continue;
      if (!client.isBack) this.fail(`${client.name} never gets its answer`);
    }
    for (const backend of this.#backends) this.#fault ??= backend.missing();
    return this.fault();
  }

  end(): void {
    this.#turns.end();
  }

  #begun(): Action[] {
    const nodes = [...this.#nodes.keys()];
    return this.#happenings.flatMap((it, place) => {
      const { name, happening } = it;
      const writes =
        happening.kind === "append" ? [] : happening.kind === "return" ? [...nodes, "log"] : [happening.node];
      const isReady = happening.kind !== "return" || this.#clients[0]?.isBack;
      const run = () => {
        this.#happenings = this.#happenings.toSpliced(place, 1);
        this.#begin(happening, name);
      };
      return isReady ? [{ name, reads: ["log"], writes, run }] : [];
    });
  }

  #back(): Action[] {
    return this.#later.map((action) => {
      const run = () => {
        this.#later = this.#later.filter((it) => it !== action);
        action.run();
      };
      return { ...action, run };
    });
  }

  #heard(): Action[] {
    return this.#words.map((word) => {
      const { to, event } = word;
      const run = () => {
        this.#words = this.#words.filter((it) => it !== word);
        this.#nodes.get(to)!.sequencer.accept(event);
      };
      return { name: `${to} hears ${event.topic}:${event.seq}`, writes: [to], run };
    });
  }

  #timed(): Action[] {
    const nodes = [...this.#nodes.keys()];
    return [...this.#turns.timers.keys()].map((timer) => ({
      name: `timer ${timer}`,
      writes: nodes,
      run: () => {
        this.#passed++;
        this.#turns.pass(timer);
      },
    }));
  }

  #begin(happening: Happening, name: string): void {
    switch (happening.kind) {
      case "append": {
        const events = [...happening.topics].map((topic, index) => newEvent(topic, `${name}.${index}`));
        if (happening.isAbandoned) return this.log.abandon(name, events);
        const tellOthers = ({ appended }: AppendResult) => ({
          name: "tells the others",
          writes: [...this.#nodes.keys()],
          run: () => {
            for (const event of this.log.events) if (appended.some(({ id }) => id === event.id)) this.tell("", event);
          },
        });
        return this.log.append(name, events, { done: tellOthers });
      }
      case "publish": {
        const events = [...happening.topics].map((topic, index) => newEvent(topic, `${name}.${index}`));
        const node = this.#nodes.get(happening.node)!;
        if (happening.source === undefined) void node.publish(events);
        else node.publishFrom(happening.source, events);
        return;
      }
      case "repair":
        return this.#repair(this.#nodes.get(happening.node)!.sequencer);
      case "feed": {
        const backend = new Backend(this.log, this.log.portOf(happening.node, `${happening.node}'s feed`));
        this.#backends.push(backend);
        void backend.start().catch((error) => this.fail(`${error}`));
        return;
      }
      case "sweep":
        this.#nodes.get(happening.node)!.sequencer.sweep();
        return;
      case "connect":
        return this.#connect(happening.node, [...happening.topics], happening.since ? { cursor: 0, seen: {} } : null);
      case "return":
        this.#return(this.#clients[0]!, happening.node);
    }
  }

  /** The line breaks; it comes back later. */
  #return(client: Client, to: string): void {
    const since = client.leave();
    const topics = [...client.topics];
    const run = () => this.#connect(to, topics, since);
    this.#later.push({ name: `${client.name} comes to ${to}`, reads: ["log"], writes: [to], run });
  }

  #repair(sequencer: Sequencer): void {
    // One that fails is taken up by the next.
    sequencer.repair().catch(() => {});
  }

  #connect(node: string, topics: string[], since: Since | null): void {
    const client = new Client(`client ${this.#clients.length + 1}`, this.#nodes.get(node)!);
    this.#clients.push(client);
    client.connect(topics, since);
  }

  #logAtOnce(event: NewEvent): void {
    this.log.append("before", [event], { done: () => ({ name: "", run() {} }) });
    while (this.log.courses.length > 0) this.log.actions()[0]!.run();
  }

  /** Everything that has begun goes to its end, the oldest first; the bus loses what it carries. */
  #drain(): void {
    this.#words = [];
    for (let steps = 0; steps < 10_000; steps++) {
      this.#turns.settle();
      const [next] = [...this.log.actions(), ...this.#timed()];
      if (next === undefined) return;
      next.run();
    }
    this.fail("goes on for ever");
  }
}

const nameOf = (happening: Happening, index: number) => {
  const { kind, ...rest } = happening;
  return `${index + 1} ${kind} ${Object.values(rest).join(" ")}`;
};
