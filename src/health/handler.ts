/** Answers `/health`, `/live` and `/ready` [END1] [END2]. */
import { workersCheckerName } from "./checkers.ts";
import type { HealthManager, HealthReport } from "./manager.ts";

export interface HealthHandlerOptions {
  manager: HealthManager;
  /** Whether this node is on its way out [DRN]. */
  draining: () => boolean;
}

export interface HealthHandler {
  /** @returns null for a path that is none of the three */
  handle(request: Pick<Request, "method" | "url">): Promise<Response> | null;
  /** Whether this process alone can serve: what its siblings ask of it. */
  isReady(): Promise<boolean>;
  /** Says what `/health` does. */
  report(): Promise<HealthReport & { draining: boolean }>;
}

export function createHealthHandler({ manager, draining }: HealthHandlerOptions): HealthHandler {
  const reportAll = async () => ({ ...(await manager.report()), draining: draining() });
  const answers: Record<string, () => Promise<{ code: 200 | 503; body: object }>> = {
    // Asks nobody: that this runs at all is the answer.
    "/live": async () => ({ code: 200, body: { status: "ok" } }),
    "/ready": async () => {
      if (draining()) return { code: 503, body: { status: "draining" } };
      const { status } = await manager.report();
      // Draining may have begun while the checkers were asked.
      if (draining()) return { code: 503, body: { status: "draining" } };
      return status === "down"
        ? { code: 503, body: { status: "not_ready" } }
        : { code: 200, body: { status: "ready" } };
    },
    "/health": async () => {
      const report = await reportAll();
      return { code: report.status === "down" ? 503 : 200, body: report };
    },
  };

  return {
    handle({ method, url }) {
      const path = new URL(url).pathname;
      const answer = Object.hasOwn(answers, path) ? answers[path] : undefined;
      if (answer === undefined) return null;
      if (method !== "GET" && method !== "HEAD") return Promise.resolve(notAllowed());
      return answer().then(({ code, body }) => respond({ method, code, body }));
    },
    report: reportAll,
    isReady: async () => !draining() && (await manager.report({ without: workersCheckerName })).status !== "down",
  };
}

function respond({ method, code, body }: { method: string; code: number; body: object }): Response {
  const text = JSON.stringify(body);
  const headers = { "content-type": "application/json", "cache-control": "no-store" };
  return new Response(method === "HEAD" ? null : text, { status: code, headers });
}

function notAllowed(): Response {
  return new Response(null, { status: 405, headers: { allow: "GET, HEAD" } });
}
