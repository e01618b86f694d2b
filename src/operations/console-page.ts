/** Writes the console: one page that holds all it needs and asks for nothing but `/stats.json`. */

/** @param nonce what the page's own style and script are allowed by */
export function consolePage(nonce: string): string {
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<link rel="icon" href="data:,">
<title>ws-service</title>
<style nonce="${nonce}">
  :root { color-scheme: light dark; }
  body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 64rem; padding: 0 1rem; }
  header { display: flex; flex-wrap: wrap; gap: 0 1.5rem; align-items: baseline; }
  h1 { font-size: 1.3rem; margin: 0; }
  #state { opacity: .7; }
  #state.away { color: #c33; opacity: 1; }
  main { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: 1rem; margin-top: 1.5rem; }
  section { border: 1px solid color-mix(in srgb, currentColor 20%, transparent); border-radius: .5rem; padding: .75rem 1rem; }
  h2 { font-size: .85rem; margin: 0 0 .4rem; text-transform: uppercase; letter-spacing: .05em; opacity: .7; }
  dl { display: grid; grid-template-columns: 1fr auto; gap: .1rem 1rem; margin: 0; }
  dd { margin: 0; text-align: right; font-variant-numeric: tabular-nums; }
  dd small { opacity: .6; margin-left: .4rem; }
</style>
<header><h1>ws-service</h1><span id="about"></span><span id="state">asking …</span></header>
<main></main>
<script nonce="${nonce}">
  "use strict";
  const token = new URLSearchParams(location.search).get("token");
  // It need not stay in the address bar and the history.
  if (token !== null) history.replaceState(null, "", location.pathname);
  const main = document.querySelector("main"), about = document.querySelector("#about"), state = document.querySelector("#state");
  const headers = token === null ? {} : { authorization: "Bearer " + token };
  const everyMs = 2000;
  let before = null;

  const make = (name, text) => Object.assign(document.createElement(name), { textContent: text });
  const amount = (value) => typeof value === "number" ? value.toLocaleString() : String(value);

  // A count that only grows is shown with how fast it does.
  function perSecond(section, name, value) {
    const known = before?.sections[section]?.[name];
    if (!growing(section, name) || known === undefined || value < known) return "";
    const rate = (value - known) / ((performance.now() - before.at) / 1000);
    return rate.toFixed(rate < 10 ? 1 : 0) + "/s";
  }
  const growing = (section, name) =>
    /^(messages in|errors|published|closes)$/.test(section) || /^(accepted|subscribes|replayed_events|position|offered|ended|outbox_published|stream_published|told)$/.test(name) ||
    (section === "log" && /^(events|batches)$/.test(name));

  function sectionsOf(stats) {
    const { figures, counts } = stats;
    return {
      connections: { ...figures.hub, ...figures.sessions, backpressure_closes: stats.backpressure_closes },
      presence: { ...figures.presence, ...figures.typing },
      log: { ...figures.log, batches: stats.appends.batches, mean_batch_ms: stats.appends.mean_ms },
      subscriptions: { ...figures.subscriptions, published_up_to: figures.sequencer?.position, topics_here: figures.sequencer?.topics },
      calls: figures.calls ?? {},
      bus: figures.cluster ?? {},
      ingest: figures.ingest ?? {},
      push: figures.push ?? {},
      process: {
        memory_mib: Math.round(stats.resident_bytes / 2 ** 20),
        loop_lag_ms: stats.event_loop_lag_ms.last,
        worst_lag_ms: stats.event_loop_lag_ms.worst,
        dropped_log_lines: stats.dropped_log_lines,
      },
      "messages in": counts.messages_in,
      errors: counts.errors,
      published: counts.published,
      closes: counts.closes,
    };
  }

  function show(stats) {
    const sections = sectionsOf(stats);
    about.textContent = "node " + stats.node_id + " · version " + stats.version + " · up " + upTime(stats.uptime_seconds);
    main.replaceChildren(...Object.entries(sections).flatMap(([title, values]) => {
      const entries = Object.entries(values).filter(([, value]) => value !== undefined);
      if (entries.length === 0) return [];
      const section = document.createElement("section"), list = document.createElement("dl");
      section.append(make("h2", title), list);
      for (const [name, value] of entries) {
        const cell = make("dd", amount(value)), rate = perSecond(title, name, value);
        if (rate !== "") cell.append(make("small", rate));
        list.append(make("dt", name.replaceAll("_", " ")), cell);
      }
      return [section];
    }));
    before = { at: performance.now(), sections };
  }

  function upTime(seconds) {
    const parts = [[86400, "d"], [3600, "h"], [60, "min"]];
    for (const [size, unit] of parts) if (seconds >= size) return Math.floor(seconds / size) + " " + unit;
    return seconds + " s";
  }

  async function look() {
    try {
      const response = await fetch("/stats.json", { headers, cache: "no-store" });
      if (!response.ok) throw new Error("HTTP " + response.status);
      show(await response.json());
      state.textContent = "as of " + new Date().toLocaleTimeString();
      state.className = "";
    } catch (error) {
      state.textContent = "no answer: " + error.message;
      state.className = "away";
    }
    setTimeout(look, everyMs);
  }
  look();
</script>
</html>
`;
}
