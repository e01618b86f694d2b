/** Tells which origins a list of `server.allowed_origins` means, and which entries could never mean any [CON1]. */

/** Finds what is wrong with an entry, as what to write instead; null where some browser may come from it. */
export function originFault(entry: string): string | null {
  if (entry === "*" || entry === "null") return null;
  const wildcard = /^[^/]*:\/\/\*\./.test(entry);
  // Checked as any of the names that it stands for.
  const plain = wildcard ? entry.replace("://*.", "://x.") : entry;
  if (plain.includes("*")) return "a * stands for the first part of a name only: write https://*.example.com";
  if (!plain.includes("://")) {
    const guess = URL.parse(`https://${plain}`);
    return `an origin has a scheme: write https://${guess === null ? "app.example.com" : guess.host}`;
  }
  const url = URL.parse(plain);
  if (url === null || url.host === "") return "this is no origin: write https://app.example.com";
  // As browsers send it: no path, no port that goes without saying, lower case, other alphabets as xn--.
  const sent = url.origin === "null" ? `${url.protocol}//${url.host.toLowerCase()}` : url.origin;
  const asWritten = wildcard ? sent.replace("://x.", "://*.") : sent;
  if (asWritten !== entry) return `browsers would never send this: write ${asWritten}`;
  if (wildcard && !/\.[^.]+\.|\.localhost$/.test(url.hostname)) return "a * must stand before a domain of your own";
  return null;
}

/** Whether the list lets an origin in. `https://*.example.com` means every name below `example.com`, but not itself. */
export function createOriginCheck(allowed: readonly string[]): (origin: string) => boolean {
  if (allowed.includes("*")) return () => true;
  const exact = new Set(allowed.filter((entry) => !entry.includes("*")));
  const patterns = allowed.flatMap((entry) => {
    const [scheme, domain] = entry.split("*");
    return domain === undefined ? [] : [{ scheme: scheme!, domain }];
  });
  const below = (origin: string, { scheme, domain }: { scheme: string; domain: string }) =>
    origin.startsWith(scheme) &&
    origin.endsWith(domain) &&
    /^[a-z0-9_-]+(\.[a-z0-9_-]+)*$/.test(origin.slice(scheme.length, -domain.length));
  return (origin) => exact.has(origin) || patterns.some((pattern) => below(origin, pattern));
}

/** Whether a page of this origin comes from this machine itself. */
export function isLoopbackOrigin(origin: string): boolean {
  return /^https?:\/\/(localhost|127\.0\.0\.1|\[::1\])(:\d{1,5})?$/.test(origin);
}
