/** Names what a call needs of a browser, so that something else may stand in for it. */

export type CallMedia = "audio" | "video";

export interface Rtc {
  RTCPeerConnection: new (configuration?: RTCConfiguration) => RTCPeerConnection;
  MediaStream: new (tracks?: MediaStreamTrack[]) => MediaStream;
  /** Asks for microphone and camera; `{ audio: true, video: false }`. */
  getUserMedia(wanted: { audio: boolean; video: boolean }): Promise<MediaStream>;
}

export interface CallsOptions {
  /**
   * STUN and TURN servers; asked for each time a connection between two devices is made, as what TURN lets somebody in by does not last.
   * Without any, two devices find each other in one network only.
   */
  iceServers?: RTCIceServer[] | (() => RTCIceServer[] | Promise<RTCIceServer[]>);
  /** Takes the place of the browser's own. */
  rtc?: Partial<Rtc>;
}

/** Takes what was given, and else what the browser has; what it does not have fails when it is needed. */
export const rtcOf = (given: Partial<Rtc> = {}): Rtc => ({
  RTCPeerConnection: given.RTCPeerConnection ?? globalThis.RTCPeerConnection,
  MediaStream: given.MediaStream ?? globalThis.MediaStream,
  getUserMedia: given.getUserMedia ?? ((wanted) => navigator.mediaDevices.getUserMedia(wanted)),
});
