/** Says that there is nothing at a path: to programs in JSON, to a browser as a page from which sockets may be opened [END1]. */

// Without a content policy: on Firefox's own pages for JSON, and on blank ones, no socket can be opened.
const page = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>ws-service</title>
<style>body { font: 1rem/1.5 system-ui, sans-serif; max-width: 40rem; margin: 3rem auto; padding: 0 1rem }</style>
<h1>There is no page here</h1>
<p>This is ws-service. It speaks WebSocket at <code>/ws</code>, and tells how it is at <a href="/health">/health</a>,
<a href="/live">/live</a> and <a href="/ready">/ready</a>. There is nothing else.</p>
<p>To try it, open this page’s console and paste the first exchange of the README there.</p>
</html>
`;

/** @returns 404 in the form that the request asks for */
export function notFound({ headers, method }: Request): Response {
  const isBrowser = headers.get("accept")?.includes("text/html") ?? false;
  const [type, body] = isBrowser
    ? ["text/html; charset=utf-8", page]
    : ["application/json;charset=utf-8", JSON.stringify({ code: "not_found", message: "There is nothing here." })];
  return new Response(method === "HEAD" ? null : body, {
    status: 404,
    headers: { "content-type": type, "cache-control": "no-store", vary: "Accept", connection: "close" },
  });
}
