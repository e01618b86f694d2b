/** Describes what follows requests through the service, where traces are on; where they are off there is null in its place. */

/** Tells more of a span; never who it was or what was said. */
export type SpanFacts = Record<string, string | number>;

/** One step of a request, or all of it, that is under way. Only what is sampled has one. */
export interface Span {
  /** Names it to other processes, as W3C Trace Context writes it. */
  readonly traceparent: string;
  /** Begins a step of it. */
  begin(name: string): Span;
  /** Notes a step of it that has just ended. @param error the kind of fault that it ended with */
  note(name: string, step: { durationMs: number; facts?: SpanFacts; error?: string }): void;
  /** @param end `error`: the code that it was refused with, by the service's own fault where `isFault` */
  end(end?: { error: string; isFault: boolean }): void;
}

export interface Tracing {
  /**
   * Begins the span of a request.
   * @param traceparent what the client has said of its own span; what is malformed is passed over
   * @returns null where it is not sampled
   */
  beginRequest(type: string, about: { traceparent: string | undefined; connectionId: string }): Span | null;
  /** Begins the span of what another node has published, on that node's word. */
  beginDelivery(traceparent: string): Span | null;
  /** Sends what is ended and not sent yet, for as long as it may take. Never rejects. */
  stop(): Promise<void>;
}
