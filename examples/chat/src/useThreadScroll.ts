/** Holds the place of whoever reads: at the end what is new is shown, anywhere else nothing moves, whatever comes above or below. */
import { type RefObject, useCallback, useEffect, useLayoutEffect, useRef, useState } from "react";

/** So near to the end is at the end, pixels. */
const slack = 40;

interface Place {
  isAtEnd: boolean;
  /** The first message that is seen, and how far below the top of the box it begins. */
  key: string | null;
  top: number;
}

export interface ThreadScroll {
  box: RefObject<HTMLDivElement | null>;
  isAtEnd: boolean;
  toEnd(): void;
  /** The last message that is seen whole, by its `seq`. */
  lastSeen(): number | undefined;
}

/** @param startAt the selector of what to begin at, if that is above what the end shows; it is asked once, when `isReady` */
export function useThreadScroll(startAt: string, isReady: boolean): ThreadScroll {
  const box = useRef<HTMLDivElement>(null);
  const place = useRef<Place>({ isAtEnd: true, key: null, top: 0 });
  const [isAtEnd, setIsAtEnd] = useState(true);

  const note = useCallback(() => {
    const element = box.current!;
    const { top } = element.getBoundingClientRect();
    const first = messagesIn(element).find((it) => it.getBoundingClientRect().bottom > top);
    place.current = {
      isAtEnd: element.scrollHeight - element.scrollTop - element.clientHeight < slack,
      key: first?.dataset.key ?? null,
      top: first === undefined ? 0 : first.getBoundingClientRect().top - top,
    };
    setIsAtEnd(place.current.isAtEnd);
  }, []);

  const hold = useCallback(() => {
    const element = box.current!;
    const { isAtEnd, key, top } = place.current;
    if (isAtEnd) element.scrollTop = element.scrollHeight;
    else {
      const held = messagesIn(element).find((it) => it.dataset.key === key);
      if (held === undefined) return;
      const moved = held.getBoundingClientRect().top - element.getBoundingClientRect().top - top;
      if (moved !== 0) element.scrollTop += moved;
    }
  }, []);

  // After each drawing, and before it is seen.
  useLayoutEffect(hold);

  const begin = useRef(startAt);
  useLayoutEffect(() => {
    const start = isReady ? box.current!.querySelector<HTMLElement>(begin.current) : null;
    if (start === null) return;
    const above = start.getBoundingClientRect().top - box.current!.getBoundingClientRect().top;
    if (above < 0) box.current!.scrollTop += above - 16;
    note();
  }, [isReady, note]);

  useEffect(() => {
    const element = box.current!;
    element.addEventListener("scroll", note, { passive: true });
    const observer = new ResizeObserver(hold);
    observer.observe(element);
    observer.observe(element.firstElementChild!);
    return () => {
      element.removeEventListener("scroll", note);
      observer.disconnect();
    };
  }, [note, hold]);

  const toEnd = useCallback(() => {
    place.current.isAtEnd = true;
    hold();
    setIsAtEnd(true);
  }, [hold]);

  const lastSeen = useCallback(() => {
    const { bottom } = box.current!.getBoundingClientRect();
    const seen = messagesIn(box.current!).findLast(
      (it) => it.dataset.seq !== undefined && it.getBoundingClientRect().bottom <= bottom + 4,
    );
    return seen === undefined ? undefined : Number(seen.dataset.seq);
  }, []);

  return { box, isAtEnd, toEnd, lastSeen };
}

const messagesIn = (element: HTMLElement) => [...element.querySelectorAll<HTMLElement>("[data-key]")];
