/** Small scenes for the nodes' explorer, all orders of which are tried, larger ones of which some are, and what shows which flaw. */
import type { LogFlaw } from "./model-log.ts";
import type { Happening, Scenario } from "./world.ts";

const connect = (node: string, topics: string): Happening => ({ kind: "connect", node, topics });
const resume = (node: string, topics: string): Happening => ({ kind: "connect", node, topics, since: "start" });
const append = (topics: string): Happening => ({ kind: "append", topics });
const abandon = (topics: string): Happening => ({ kind: "append", topics, isAbandoned: true });
const publish = (node: string, topics: string): Happening => ({ kind: "publish", node, topics });
const publishFrom = (source: string, topics: string): Happening => ({ kind: "publish", node: "X", topics, source });
const repair = (node: string): Happening => ({ kind: "repair", node });
const comeBack = (node: string): Happening => ({ kind: "return", node });
const sweep = (node: string): Happening => ({ kind: "sweep", node });

/** Some hundred to ten thousand orders each. */
export const scenes = {
  "a replay, an append and a repair": {
    nodes: ["X"],
    logged: "a",
    happenings: [resume("X", "a"), append("a"), repair("X")],
    isBusSilent: true,
  },
  "a replay and two appends that the bus tells of": {
    nodes: ["X"],
    logged: "a",
    happenings: [resume("X", "a"), append("a"), append("a")],
  },
  "a replay and a batch": { nodes: ["X"], happenings: [resume("X", "a"), append("aa")] },
  "a start at the head": { nodes: ["X"], logged: "a", happenings: [connect("X", "a"), append("a"), repair("X")] },
  "a node's own batch beside another's append": {
    nodes: ["X"],
    logged: "a",
    happenings: [resume("X", "ab"), publish("X", "a"), append("b")],
    isBusSilent: true,
  },
  "a return to the same node": {
    nodes: ["X"],
    logged: "a",
    happenings: [resume("X", "a"), append("a"), comeBack("X")],
  },
  "a return to another node": {
    nodes: ["X", "Y"],
    logged: "a",
    happenings: [resume("X", "a"), publish("X", "a"), comeBack("Y")],
  },
  "a source that does not wait, at a topic that is busy": {
    nodes: ["X"],
    happenings: [append("a"), publishFrom("s", "a"), publishFrom("s", "b")],
    isBusSilent: true,
  },
  "a topic that is swept and heard again": {
    nodes: ["X"],
    logged: "a",
    happenings: [resume("X", "a"), append("a"), comeBack("X"), sweep("X")],
    isBusSilent: true,
  },
  "a log that is away for a moment": {
    nodes: ["X"],
    logged: "a",
    happenings: [resume("X", "a"), append("a"), repair("X")],
    refusals: 1,
  },
  "positions that are missing for ever": {
    nodes: ["X"],
    logged: "a",
    happenings: [resume("X", "a"), abandon("b"), publish("X", "a")],
  },
} satisfies Record<string, Scenario>;

const twenty = "abcdefghijklmnopqrst";

/** Too many orders to try them all in a test; the first ones can be by hand. */
export const largeScenes = {
  "a lower position that comes late, in a replay of two pages": {
    nodes: ["X"],
    happenings: [resume("X", "ab"), append("a"), append("bbb")],
    isBusSilent: true,
  },
  "more that moved than a page has": {
    nodes: ["X"],
    happenings: [resume("X", "abcde"), append("abcda"), repair("X")],
    isBusSilent: true,
  },
  "the whole log beside appends that overtake each other": {
    nodes: ["X"],
    happenings: [{ kind: "feed", node: "X" }, append("a"), append("bb")],
  },
  "two nodes, two clients that come back": {
    nodes: ["X", "Y"],
    logged: "ab",
    happenings: [
      ...[resume("X", "abc"), connect("Y", "ab"), publish("X", "ab"), publish("Y", "ba"), append("c"), append("aa")],
      ...[abandon("b"), repair("X"), repair("Y"), comeBack("Y"), comeBack("X"), sweep("X")],
    ],
    refusals: 3,
  },
  "two nodes under load": {
    nodes: ["X", "Y"],
    logged: "abc",
    happenings: [
      ...[connect("X", "abc"), connect("Y", "abc"), publish("X", "abc"), publish("Y", "cba"), publish("X", "a")],
      ...[append("b"), append("a"), repair("X"), repair("Y")],
    ],
  },
  "sources that do not wait, at busy topics": {
    nodes: ["X"],
    happenings: [
      ...[connect("X", "abc"), append("a"), append("ab"), append("a"), repair("X")],
      { kind: "feed", node: "X" },
      ...["a", "b", "ab", "c", "a"].map((topics) => publishFrom("s", topics)),
      ...["a", "b", "ac"].map((topics) => publishFrom("t", topics)),
    ],
  },
  "a return past an append that is slow": {
    nodes: ["X"],
    logged: "a",
    happenings: [resume("X", "ac"), append("b"), publish("X", "a"), append("ccc"), comeBack("X")],
    isBusSilent: true,
  },
  "a return to another node past an append that is slow": {
    nodes: ["X", "Y"],
    logged: "a",
    happenings: [resume("X", "a"), publish("X", "a"), append("b"), comeBack("Y")],
  },
  "many topics that missed something": {
    nodes: ["X"],
    happenings: [
      ...[resume("X", twenty), append(twenty), append("aabb"), append("ccaa"), append("ab"), publish("X", "ba")],
      ...[repair("X"), repair("X")],
    ],
    isBusSilent: true,
  },
  "many topics that are joined while they move": {
    nodes: ["X"],
    logged: "ab",
    happenings: [
      ...[connect("X", twenty), resume("X", "ab"), append("abcabc"), append("ba"), append("cdefg"), publish("X", "aa")],
      ...[repair("X"), comeBack("X"), sweep("X")],
    ],
    refusals: 1,
  },
} satisfies Record<string, Scenario>;

/** Where each flaw of a log is seen, and as what. */
export const logFlaws: Record<LogFlaw, { scene: keyof typeof scenes | keyof typeof largeScenes; fault: RegExp }> = {
  "watermark above what is in flight": { scene: "a replay, an append and a repair", fault: /was not sent a:2/ },
  "page without a watermark": {
    scene: "a lower position that comes late, in a replay of two pages",
    fault: /was not sent a:1/,
  },
  "heads younger than the page's events": { scene: "a replay, an append and a repair", fault: /was not sent a:2/ },
  "what moved, told beyond the watermark": { scene: "a replay, an append and a repair", fault: /was not sent a:2/ },
  "what moved, by heads and cut": { scene: "more that moved than a page has", fault: /was not sent a:1/ },
  "feed beyond the watermark": {
    scene: "the whole log beside appends that overtake each other",
    fault: /the feed is told \d+ and was not sent/,
  },
  "own batch over foreign numbers": {
    scene: "a node's own batch beside another's append",
    fault: /was not sent b:1/,
  },
  "topic open while one appends to it": {
    scene: "a replay and two appends that the bus tells of",
    fault: /was not sent a:2/,
  },
  "numbers of a topic against their positions": { scene: "a replay and a batch", fault: /is sent a:2 after a:0/ },
};

/** Orders in which something was wrong once; each is tried for ever. */
export const foundOnce: Record<string, { scene: Scenario; order: string[] }> = {
  "a start at the head of two topics, where the gap of one cannot be read": {
    scene: { nodes: ["X"], happenings: [append("abab"), repair("X"), connect("X", "ab")], refusals: 1 },
    order: [
      ...["1 append abab", "1 append abab: locks", "1 append abab: draws", "1 append abab: commits"],
      ...["1 append abab: tells the others", "2 repair X", "X #2 moved > 0: takes the watermark"],
      ...["X #2 moved > 0: looks", "X #2 moved > 0: is answered", "3 connect X ab", "X hears a:1", "X hears b:1"],
      ...["X's connections #1 heads a,b: looks", "X's connections #1 heads a,b: is answered"],
      ...["X #4 range b 1..2: is refused", "X #3 range a 1..2: looks", "X #3 range a 1..2: is answered"],
    ],
  },
};
