/** Reads from the log which topics have moved, by the way that costs less: what moves in the cluster, or what is heard here [LOG4]. */
import { pages } from "../ground/pages.ts";
import type { Epochs } from "../storage/epochs.ts";
import type { EventLog, LoggedEvent, MovedPage } from "../storage/ports.ts";

export interface MovedOptions {
  log: EventLog;
  epochs: Epochs;
  /** Where the reader is now. */
  position: () => number;
  /** By topics of interest on this node; looked at after the watermark was read, so that none of them is passed over. */
  heard: ReadonlyMap<string, unknown>;
}

export interface MovedStep {
  heads: MovedPage["heads"];
  /** All that was up to it is in this step or was in those before. */
  throughPosition: number;
  /** Position of the last event of the log. */
  end: number;
}

const movedPage = 1_000;
/** Topics that are asked about by one statement. */
export const topicsAtOnce = 1_000;

/**
 * Steps up to where the log is as this begins: what is logged meanwhile is the next one's. Begins anew where another epoch has begun,
 * from where the cursor is then: what was asked from before may be of a log that has gone back, known to be broken or not.
 */
export async function* movedSteps(options: MovedOptions): AsyncGenerator<MovedStep, void> {
  const { log, epochs, position, heard } = options;
  let through = Number.POSITIVE_INFINITY;
  for (let more = true; more && position() < through; ) {
    const epoch = epochs.newestId;
    const page = await log.movedSince(position(), movedPage);
    if (epochs.newestId !== epoch) {
      through = Number.POSITIVE_INFINITY;
      continue;
    }
    through = Math.min(through, page.watermark);
    ({ more } = page);
    if (more && page.watermark - position() > heard.size) {
      const heads = await movedAmongHeard(options, page.watermark);
      if (epochs.newestId === epoch) yield { heads, throughPosition: page.watermark, end: page.end };
      return;
    }
    yield { heads: page.heads, throughPosition: page.position, end: page.end };
  }
}

async function movedAmongHeard({ log, position, heard }: MovedOptions, throughPosition: number) {
  const moved: MovedPage["heads"] = [];
  for (const topics of pages([...heard.keys()], topicsAtOnce))
    moved.push(...(await log.movedAmong({ topics, afterPosition: position(), throughPosition })));
  return moved;
}

const eventsPage = 500;

/** The events of the topics after a position up to one that the watermark has passed, page by page. Ends where the log has gone back. */
export async function* eventsOf(
  { log, epochs }: { log: Pick<EventLog, "replay">; epochs: Epochs },
  { topics, afterPosition, throughPosition }: Parameters<EventLog["movedAmong"]>[0],
): AsyncGenerator<LoggedEvent[], void> {
  const { breaks } = epochs;
  for (let from = afterPosition; from < throughPosition; ) {
    const page = await log.replay({ topics, afterPosition: from, limit: eventsPage });
    if (epochs.breaks !== breaks) return;
    // Events above may have a hole below it that closes before the next page.
    yield page.events.filter(({ position }) => position <= throughPosition);
    from = page.more ? (page.events.at(-1)?.position ?? throughPosition) : throughPosition;
  }
}
