/** Draws the icons, of one weight and 20 × 20. */
const paths = {
  back: "M12.5 4 6.5 10l6 6",
  send: "M3.5 10h12M10.5 4.5 16 10l-5.5 5.5",
  phone: "M6.2 3.5 8 7 6.4 8.6c.9 2 2.9 4 5 5L13 12l3.5 1.8v2.4c0 .5-.4.9-.9.8C9 16.6 3.4 11 3 4.4c0-.5.4-.9.9-.9h2.3Z",
  hangUp:
    "M2.8 11.7c0-2.4 3.2-4.2 7.2-4.2s7.2 1.8 7.2 4.2v1.1c0 .5-.5.8-.9.7l-2.9-.8a.8.8 0 0 1-.6-.8v-1.3a9.3 9.3 0 0 0-5.6 0v1.3c0 .4-.2.7-.6.8l-2.9.8c-.5.1-.9-.2-.9-.7v-1.1Z",
  video:
    "M3 6.3c0-.7.6-1.3 1.3-1.3h6.9c.7 0 1.3.6 1.3 1.3v7.4c0 .7-.6 1.3-1.3 1.3H4.3c-.7 0-1.3-.6-1.3-1.3V6.3Zm9.5 2.4 4.5-2.4v7.4l-4.5-2.4",
  videoOff:
    "M8 5h3.2c.7 0 1.3.6 1.3 1.3v3.2m0 4.2c0 .7-.6 1.3-1.3 1.3H4.3c-.7 0-1.3-.6-1.3-1.3V6.3c0-.5.3-.9.7-1.1m8.8 3.5 4.5-2.4v7.4M3 3l14 14",
  microphone:
    "M10 3a2.3 2.3 0 0 0-2.3 2.3v4a2.3 2.3 0 1 0 4.6 0v-4A2.3 2.3 0 0 0 10 3Zm-5 6.5a5 5 0 0 0 10 0M10 14.5V17",
  microphoneOff:
    "M7.7 7.7v1.6a2.3 2.3 0 0 0 3.5 2m1.1-3V5.3a2.3 2.3 0 0 0-4.3-1.1M5 9.5a5 5 0 0 0 7.8 4.1M15 9.5c0 .8-.2 1.5-.5 2.1M10 14.5V17M3 3l14 14",
  edit: "m4 16 .8-3.3 8.4-8.4c.7-.7 1.8-.7 2.5 0s.7 1.8 0 2.5L7.3 15.2 4 16Z",
  remove:
    "M4 5.5h12M8 5.5V4.2c0-.4.3-.7.7-.7h2.6c.4 0 .7.3.7.7v1.3m2.5 0-.6 9.7c0 .7-.6 1.3-1.3 1.3H7.4c-.7 0-1.3-.6-1.3-1.3L5.5 5.5m3 3.5v4.5m3-4.5v4.5",
  close: "m5 5 10 10M15 5 5 15",
  down: "m4.5 8 5.5 5.5L15.5 8",
  theme: "M10 3.5a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13Zm0 0v13",
  leave: "M8 4H5.3c-.7 0-1.3.6-1.3 1.3v9.4c0 .7.6 1.3 1.3 1.3H8m4-9 3.5 3-3.5 3m3.5-3H8",
  lock: "M6.5 9V7a3.5 3.5 0 0 1 7 0v2m-8 0h9c.6 0 1 .4 1 1v5c0 .6-.4 1-1 1h-9c-.6 0-1-.4-1-1v-5c0-.6.4-1 1-1Z",
} as const;

export type IconName = keyof typeof paths;

/** What it stands in has the name. */
export function Icon({ name }: { name: IconName }) {
  return (
    <svg viewBox="0 0 20 20" width="20" height="20" aria-hidden="true" className="icon">
      <path d={paths[name]} />
    </svg>
  );
}

const ticks = {
  pending: "M8 3.5a4.5 4.5 0 1 0 0 9 4.5 4.5 0 0 0 0-9Zm0 2V8l1.7 1.2",
  sent: "m4 8.4 2.7 2.7L12 5.3",
  delivered: "m1.4 8.3 2.8 2.8 5.5-6M7.5 10.5l.6.6 5.6-6",
  read: "m1.4 8.3 2.8 2.8 5.5-6M7.5 10.5l.6.6 5.6-6",
  failed: "M8 3.5a4.5 4.5 0 1 0 0 9 4.5 4.5 0 0 0 0-9ZM8 5.8v2.7m0 1.7v.1",
} as const;

export type TickState = keyof typeof ticks;

const tickNames: Record<TickState, string> = {
  pending: "Waiting to be sent",
  sent: "Sent",
  delivered: "Delivered",
  read: "Read",
  failed: "Not sent",
};

export function Tick({ state, detail }: { state: TickState; detail?: string | undefined }) {
  const name = detail ?? tickNames[state];
  return (
    <svg viewBox="0 0 16 16" width="16" height="16" role="img" aria-label={name} className="tick" data-tick={state}>
      <title>{name}</title>
      <path d={ticks[state]} />
    </svg>
  );
}
