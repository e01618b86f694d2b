/** Asks every node something and collects the answers until a deadline; who does not answer in time is named [ADM1]. */
import { Unavailable } from "../ground/unavailable.ts";
import { type Outage, type OutageLogger, warnsOnce } from "../telemetry/outage.ts";
import type { Bus, ControlMessage, NodeRegistry } from "./ports.ts";

/** Questions that may be asked, by name, each with plain JSON data. */
export type Questions = Record<string, { about: unknown; said: unknown }>;

/** How this node answers each question. A rejection is no answer: others see this node as missing. */
export type Answers<Q extends Questions> = { [Name in keyof Q]: (about: Q[Name]["about"]) => Promise<Q[Name]["said"]> };

export interface SurveyResult<Said> {
  /** By name of node, this one among them. */
  answers: { nodeId: string; said: Said }[];
  /** Nodes that should be there and have not answered. */
  missing: string[];
}

export interface SurveyOptions<Q extends Questions> {
  nodeId: string;
  bus: Bus;
  nodes: NodeRegistry;
  answers: Answers<Q>;
  newId: () => string;
  /** How long the others have, ms. */
  deadlineMs?: number;
  /** Questions under way at once; further ones are refused. */
  waitingMax?: number;
  logger: OutageLogger;
}

interface Waiting {
  said: Map<string, unknown>;
  noteAnswer: () => void;
}

export class Survey<Q extends Questions> {
  readonly #waiting = new Map<string, Waiting>();
  readonly #answering: Outage;

  constructor(private readonly options: SurveyOptions<Q>) {
    const { logger } = options;
    this.#answering = warnsOnce(logger, "another node was not answered", "other nodes are answered again");
  }

  /**
   * Asks all nodes; `only` asks one of them.
   * Rejects with what this node's own answer rejects with, and with `Unavailable` where too many questions are under way.
   */
  async ask<Name extends keyof Q & string>(
    name: Name,
    about: Q[Name]["about"],
    { only }: { only?: string | undefined } = {},
  ): Promise<SurveyResult<Q[Name]["said"]>> {
    const { answers, nodeId, waitingMax = 100 } = this.options;
    if (this.#waiting.size >= waitingMax) {
      throw new Unavailable("cluster", "Too many questions to the other nodes are under way.", { isPublic: true });
    }
    const isAsked = (id: string) => only === undefined || only === id;
    const [own, others] = await Promise.all([
      isAsked(nodeId) ? answers[name](about) : undefined,
      this.#askOthers({ name, about, isAsked }),
    ]);
    const said = others.said as Map<string, Q[Name]["said"]>;
    if (own !== undefined) said.set(nodeId, own);
    const byName = [...said].sort(([one], [other]) => (one < other ? -1 : 1));
    return { answers: byName.map(([id, answer]) => ({ nodeId: id, said: answer })), missing: others.missing };
  }

  /** Asks only this node. */
  askHere<Name extends keyof Q & string>(name: Name, about: Q[Name]["about"]): Promise<Q[Name]["said"]> {
    return this.options.answers[name](about);
  }

  /** Takes what the bus brings; what is not this survey's is passed over. */
  hear(message: ControlMessage): void {
    if (message.kind === "question") void this.#answer(message);
    if (message.kind !== "answer" || message.to !== this.options.nodeId) return;
    const waiting = this.#waiting.get(message.questionId);
    waiting?.said.set(message.from, message.said);
    waiting?.noteAnswer();
  }

  async #askOthers(question: { name: string; about: unknown; isAsked: (nodeId: string) => boolean }) {
    const { bus, newId, nodeId, nodes, deadlineMs = 1_500 } = this.options;
    const questionId = newId();
    const said = new Map<string, unknown>();
    const listed = (await nodes.list()).map((node) => node.nodeId);
    const expected = listed.filter((id) => id !== nodeId && question.isAsked(id));
    const missing = () => expected.filter((id) => !said.has(id));
    if (expected.length === 0) return { said, missing: [] };
    const { promise: complete, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, deadlineMs);
    this.#waiting.set(questionId, { said, noteAnswer: () => missing().length === 0 && resolve() });
    bus.broadcast({ kind: "question", questionId, from: nodeId, name: question.name, about: question.about });
    await complete;
    clearTimeout(timer);
    this.#waiting.delete(questionId);
    for (const id of [...said.keys()]) if (!question.isAsked(id)) said.delete(id);
    return { said, missing: missing() };
  }

  async #answer({ questionId, from, name, about }: ControlMessage & { kind: "question" }): Promise<void> {
    const { answers, bus, nodeId } = this.options;
    // Another survey may know it, or a newer node: no answer is an answer.
    const answer = Object.hasOwn(answers, name) ? answers[name] : undefined;
    if (answer === undefined || from === nodeId) return;
    try {
      bus.broadcast({ kind: "answer", questionId, to: from, from: nodeId, said: await answer(about as never) });
      this.#answering.ended();
    } catch (error) {
      this.#answering.began(error, { question: name });
    }
  }
}
