/** Says when something was, as people do, in the reader's own language and zone. */

const dayOf = (date: Date) => new Date(date.getFullYear(), date.getMonth(), date.getDate()).getTime();
const dayMs = 86_400_000;

/** Whole days from then to now, by the calendar. */
const daysSince = (date: Date, now: Date) => Math.round((dayOf(now) - dayOf(date)) / dayMs);

const clock = new Intl.DateTimeFormat(undefined, { hour: "numeric", minute: "2-digit" });
const weekday = new Intl.DateTimeFormat(undefined, { weekday: "long" });
const shortWeekday = new Intl.DateTimeFormat(undefined, { weekday: "short" });
const dayAndMonth = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long" });
const shortDate = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });

export const timeOf = (moment: string): string => clock.format(new Date(moment));

export const isSameDay = (one: string, other: string): boolean => dayOf(new Date(one)) === dayOf(new Date(other));

/** Names the day, for what separates days. */
export function dayName(moment: string, now = new Date()): string {
  const date = new Date(moment);
  const days = daysSince(date, now);
  if (days === 0) return "Today";
  if (days === 1) return "Yesterday";
  return days < 7 ? weekday.format(date) : dayAndMonth.format(date);
}

/** As short as a list needs it. */
export function shortTime(moment: string, now = new Date()): string {
  const date = new Date(moment);
  const days = daysSince(date, now);
  if (days === 0) return clock.format(date);
  if (days === 1) return "Yesterday";
  return days < 7 ? shortWeekday.format(date) : shortDate.format(date);
}

export function lastSeen(moment: string, now = new Date()): string {
  const minutes = Math.floor((now.getTime() - Date.parse(moment)) / 60_000);
  if (minutes < 1) return "Seen just now";
  if (minutes < 60) return `Seen ${minutes} min ago`;
  const day = dayName(moment, now);
  return `Seen ${day === "Today" || day === "Yesterday" ? day.toLowerCase() : day} at ${timeOf(moment)}`;
}

/** `75` → `1:15`. */
export function duration(seconds: number): string {
  const rest = String(Math.floor(seconds) % 60).padStart(2, "0");
  return `${Math.floor(seconds / 60)}:${rest}`;
}
