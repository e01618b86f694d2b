/** Takes traces as a collector does, by OTLP over HTTP in JSON, and finds spans in what has come. */
import { eventually } from "./until.ts";

export interface CollectedSpan {
  traceId: string;
  spanId: string;
  parentSpanId?: string;
  name: string;
  kind: number;
  startTimeUnixNano: string;
  endTimeUnixNano: string;
  attributes: { key: string; value: Record<string, unknown> }[];
  status: { code?: number };
}

export interface Collector {
  /** Goes into `traces.endpoint`. */
  url: string;
  /** Every body, as it came. */
  bodies: string[];
  headers: Headers[];
  spans(): CollectedSpan[];
  /** Waits until a trace has so many spans. @returns them by name */
  trace(traceId: string, count: number): Promise<Record<string, CollectedSpan>>;
  stop(): Promise<void>;
}

interface Body {
  resourceSpans: { scopeSpans: { spans: CollectedSpan[] }[] }[];
}

export function startCollector({ port = 0 }: { port?: number } = {}): Collector {
  const bodies: string[] = [];
  const headers: Headers[] = [];
  const server = Bun.serve({
    hostname: "127.0.0.1",
    port,
    async fetch(request) {
      if (request.method !== "POST" || new URL(request.url).pathname !== "/v1/traces")
        return new Response(null, { status: 404 });
      headers.push(request.headers);
      bodies.push(await request.text());
      return Response.json({});
    },
  });
  const spans = () =>
    bodies.flatMap((body) =>
      (JSON.parse(body) as Body).resourceSpans.flatMap(({ scopeSpans }) => scopeSpans.flatMap((it) => it.spans)),
    );
  const ofTrace = (id: string) => spans().filter(({ traceId }) => traceId === id);
  return {
    url: `http://127.0.0.1:${server.port}/v1/traces`,
    bodies,
    headers,
    spans,
    async trace(traceId, count) {
      const found = await eventually(
        async () => ofTrace(traceId),
        ({ length }) => length >= count,
      );
      return Object.fromEntries(found.map((span) => [span.name, span]));
    },
    stop: () => server.stop(true),
  };
}

/** A client's span of a trace of its own. */
export function newParent({ isSampled = true } = {}) {
  const hex = (bytes: number) => Buffer.from(crypto.getRandomValues(new Uint8Array(bytes))).toString("hex");
  const [traceId, spanId] = [hex(16), hex(8)];
  return { traceId, spanId, traceparent: `00-${traceId}-${spanId}-0${isSampled ? 1 : 0}` };
}
