/** Samples spans and sends them by OTLP over HTTP, in batches; loaded only where traces are on. */
import {
  type Context,
  type Span as OtelSpan,
  ROOT_CONTEXT,
  SpanKind,
  SpanStatusCode,
  TraceFlags,
  type Tracer,
  trace,
} from "@opentelemetry/api";
import { type ExportResult, ExportResultCode, parseTraceParent } from "@opentelemetry/core";
import { OTLPTraceExporter } from "@opentelemetry/exporter-trace-otlp-http";
import { resourceFromAttributes } from "@opentelemetry/resources";
import {
  BatchSpanProcessor,
  ParentBasedSampler,
  type ReadableSpan,
  type SpanExporter,
  TraceIdRatioBasedSampler,
  TracerProvider,
} from "@opentelemetry/sdk-trace";
import { type Outage, type OutageLogger, warnsOnce } from "./outage.ts";
import type { Span, Tracing } from "./tracing.ts";

export interface OtlpOptions {
  endpoint: string;
  /** `authorization=Bearer abc,x-tenant=1`; null: none. */
  headers: string | null;
  /** How many of the requests that no client traces, from 0 to 1. */
  sampleRatio: number;
  version: string;
  nodeId: string;
  logger: OutageLogger;
}

/** Spans that wait to be sent; beyond them they are dropped. */
const waitingMax = 2_048;
const batchSpansMax = 512;
const sendEveryMs = 1_000;
/** A batch is tried again until then. */
const sendTimeoutMs = 5_000;
/** How long the last spans may take when the service stops. */
const lastSendMsMax = 1_000;

/** Types that begin a trace by themselves: they put events into the log. Any other is traced where its client does. */
const beginning: ReadonlySet<string> = new Set([
  ...["message.send", "message.edit", "message.delete", "reaction.add", "reaction.remove"],
  ...["event.send", "publish"],
]);

export class OtlpTracing implements Tracing {
  readonly #provider: TracerProvider;
  readonly #tracer: Tracer;

  constructor({ endpoint, headers, sampleRatio, version, nodeId, logger }: OtlpOptions) {
    const exporter = new OTLPTraceExporter({
      url: endpoint,
      headers: headersOf(headers),
      timeoutMillis: sendTimeoutMs,
    });
    const outage = warnsOnce(logger, "traces are not taken, and dropped", "traces are taken again");
    const processor = new BatchSpanProcessor({
      exporter: new ToldExporter(exporter, outage),
      maxQueueSize: waitingMax,
      maxExportBatchSize: batchSpansMax,
      scheduledDelayMillis: sendEveryMs,
    });
    this.#provider = new TracerProvider({
      resource: resourceFromAttributes({
        "service.name": "ws-service",
        "service.version": version,
        "service.instance.id": nodeId,
      }),
      // Of what has a parent the parent has decided.
      sampler: new ParentBasedSampler({ root: new TraceIdRatioBasedSampler(sampleRatio) }),
      spanProcessors: [processor],
    });
    this.#tracer = this.#provider.getTracer("ws-service", version);
  }

  beginRequest(
    type: string,
    { traceparent, connectionId }: { traceparent: string | undefined; connectionId: string },
  ): Span | null {
    const parent = traceparent === undefined ? null : contextOf(traceparent);
    if (parent === null && !beginning.has(type)) return null;
    const attributes = { "ws.connection_id": connectionId };
    return this.#begin(type, { parent: parent ?? ROOT_CONTEXT, kind: SpanKind.SERVER, attributes });
  }

  beginDelivery(traceparent: string): Span | null {
    const parent = contextOf(traceparent);
    return parent === null ? null : this.#begin("deliver", { parent, kind: SpanKind.CONSUMER });
  }

  async stop(): Promise<void> {
    const sent = this.#provider.shutdown().catch(() => {});
    await Promise.race([sent, Bun.sleep(lastSendMsMax)]);
  }

  #begin(
    name: string,
    { parent, ...options }: { parent: Context; kind: SpanKind; attributes?: Record<string, string> },
  ): Span | null {
    const clock = startClock();
    const span = this.#tracer.startSpan(name, { ...options, startTime: clock() }, parent);
    return span.isRecording() ? new RecordedSpan(this.#tracer, span, clock) : null;
  }
}

/** Milliseconds since 1970, with fractions. One for all of a trace here: a clock that is set meanwhile does not bend it. */
type Clock = () => number;

function startClock(): Clock {
  const offsetMs = Date.now() - performance.now();
  return () => offsetMs + performance.now();
}

class RecordedSpan implements Span {
  constructor(
    private readonly tracer: Tracer,
    private readonly span: OtelSpan,
    private readonly clock: Clock,
  ) {}

  get traceparent(): string {
    const { traceId, spanId } = this.span.spanContext();
    return `00-${traceId}-${spanId}-01`;
  }

  begin(name: string): Span {
    return new RecordedSpan(this.tracer, this.#child(name, this.clock()), this.clock);
  }

  note(name: string, { durationMs, facts = {}, error }: Parameters<Span["note"]>[1]): void {
    const endedAt = this.clock();
    const step = this.#child(name, endedAt - durationMs).setAttributes(facts);
    if (error !== undefined) mark(step, { error, isFault: true });
    step.end(endedAt);
  }

  end(end?: { error: string; isFault: boolean }): void {
    if (end !== undefined) mark(this.span, end);
    this.span.end(this.clock());
  }

  #child(name: string, startTime: number): OtelSpan {
    return this.tracer.startSpan(name, { startTime }, trace.setSpan(ROOT_CONTEXT, this.span));
  }
}

/** A refusal that is the client's own doing is no fault of the service's. */
function mark(span: OtelSpan, { error, isFault }: { error: string; isFault: boolean }): void {
  span.setAttribute("error.type", error);
  if (isFault) span.setStatus({ code: SpanStatusCode.ERROR });
}

/** Null where it is malformed: it counts as absent then, as W3C Trace Context says. */
function contextOf(traceparent: string): Context | null {
  const parent = parseTraceParent(traceparent);
  if (parent === null) return null;
  const traceFlags = parent.traceFlags & TraceFlags.SAMPLED;
  return trace.setSpanContext(ROOT_CONTEXT, { ...parent, traceFlags, isRemote: true });
}

/** `authorization=Bearer abc,x-tenant=1` → its headers. */
function headersOf(text: string | null): Record<string, string> {
  const pairs = text === null ? [] : text.split(",").map((pair) => pair.trim());
  return Object.fromEntries(pairs.map((pair) => [pair.slice(0, pair.indexOf("=")), pair.slice(pair.indexOf("=") + 1)]));
}

/** Says once that nobody takes what is sent. */
class ToldExporter implements SpanExporter {
  constructor(
    private readonly exporter: SpanExporter,
    private readonly outage: Outage,
  ) {}

  export(spans: ReadableSpan[], onDone: (result: ExportResult) => void): void {
    this.exporter.export(spans, (result) => {
      if (result.code === ExportResultCode.SUCCESS) this.outage.ended();
      else this.outage.began(result.error ?? new Error("The collector refuses them."));
      onDone(result);
    });
  }

  shutdown(): Promise<void> {
    return this.exporter.shutdown();
  }
}
