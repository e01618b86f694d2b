/** Proves what cursors of earlier epochs are worth, and who is told that another one has begun [LOG4]. */
import { describe, expect, test } from "bun:test";
import { type Epoch, type EpochChange, Epochs } from "../../src/storage/epochs.ts";
import { Witnesses } from "../../src/storage/witnesses.ts";

const idOf = (no: number) => `epoch00${no}`;
const epoch = (no: number, beganAt: number, rest: Partial<Epoch> = {}): Epoch => ({
  id: idOf(no),
  no,
  beganAt,
  broken: false,
  line: `line ${no}`,
  createdAt: no,
  ...rest,
});

function epochsOf(...list: Epoch[]): Epochs {
  const epochs = new Epochs();
  epochs.replace(list);
  return epochs;
}

describe("[LOG4] a cursor", () => {
  test("is an opaque text that names the epoch and the place in it", () => {
    const epochs = epochsOf(epoch(1, 0));
    for (const position of [0, 1, 35, 36, 1_000_000, Number.MAX_SAFE_INTEGER]) {
      const text = epochs.cursorOf(position);
      expect(text).toMatch(/^[0-9a-z]{8}\.[0-9a-z]{1,11}$/);
      expect(epochs.read(text)).toEqual({ position, holds: true });
    }
  });

  test("is one only as it was written: a place has no second name", () => {
    const epochs = epochsOf(epoch(1, 0));
    for (const digits of ["00", "06", "0a", "00000000006", "", "A", "zzzzzzzzzzz", "000000000006"])
      expect(epochs.read(`${idOf(1)}.${digits}`)).toBeNull();
    for (const digits of ["0", "6", "a0"]) expect(epochs.read(`${idOf(1)}.${digits}`)).not.toBeNull();
  });

  test("of an earlier epoch holds as far as the log had come when the next one began", () => {
    const first = epochsOf(epoch(1, 0));
    const [before, after] = [first.cursorOf(100), first.cursorOf(101)];
    first.replace([epoch(1, 0), epoch(2, 100)]);
    expect(first.read(before)).toEqual({ position: 100, holds: true });
    expect(first.read(after)).toEqual({ position: 101, holds: false });
  });

  test("that one epoch in between does not vouch for does not hold, however far later ones have come", () => {
    const epochs = epochsOf(epoch(1, 0), epoch(2, 50), epoch(3, 200), epoch(4, 180));
    expect(epochs.read(`${idOf(1)}.${(51).toString(36)}`)?.holds).toBe(false);
    expect(epochs.read(`${idOf(2)}.${(180).toString(36)}`)?.holds).toBe(true);
    expect(epochs.read(`${idOf(2)}.${(181).toString(36)}`)?.holds).toBe(false);
    expect(epochs.read(`${idOf(4)}.${(9_999).toString(36)}`)?.holds).toBe(true);
  });

  test("of a node that has not looked yet counts only where what it says is still so", () => {
    const epochs = epochsOf(epoch(1, 0), epoch(2, 100));
    expect([100, 101].map((position) => epochs.mayHold(idOf(1), position))).toEqual([true, false]);
    // It may be ahead.
    expect(epochs.mayHold(idOf(3), 101)).toBe(true);
  });

  test("says whether the log has broken since: what was seen after it may be lost, and its numbers given out again", () => {
    const epochs = epochsOf(
      epoch(1, 0),
      epoch(2, 50),
      epoch(3, 200, { broken: true }),
      epoch(4, 180, { broken: true }),
      epoch(5, 400),
    );
    const unbroken = [1, 2, 3, 4, 5].map((no) => epochs.isUnbrokenSince(`${idOf(no)}.1`));
    expect(unbroken).toEqual([false, false, false, true, true]);
    expect(epochs.isUnbrokenSince("unknown0.1")).toBe(true);
  });

  test("of a log that is not this one, or of no form, is none", () => {
    const epochs = epochsOf(epoch(1, 0));
    const beyond = "zzzzzzzzzzz";
    for (const text of ["", "7", "unknown0.1", `${idOf(1)}.`, `${idOf(1)}.-1`, `${idOf(1)}.A`, `${idOf(1)}.${beyond}`])
      expect([text, epochs.read(text)]).toEqual([text, null]);
  });

  test("is not given out before the epochs are read", () => {
    expect(() => new Epochs().cursorOf(1)).toThrow("not read yet");
    expect(new Epochs().read(`${idOf(1)}.1`)).toBeNull();
  });
});

describe("[LOG4] another epoch", () => {
  test("is told once, with whether one of those that have begun since is broken", () => {
    const epochs = epochsOf(epoch(1, 0));
    const told: EpochChange[] = [];
    const stop = epochs.watch((change) => told.push(change));
    epochs.replace([epoch(1, 0)]);
    expect(told).toEqual([]);
    epochs.replace([epoch(2, 10), epoch(1, 0)]);
    epochs.replace([epoch(1, 0), epoch(2, 10)]);
    expect(told.splice(0)).toEqual([
      { previous: epoch(1, 0), current: epoch(2, 10), isBroken: false, heldThrough: 10 },
    ]);
    // A node that slept through one that was broken hears of it with the next.
    const broken = epoch(3, 5, { broken: true });
    epochs.replace([epoch(1, 0), epoch(2, 10), broken, epoch(4, 8)]);
    expect(told.splice(0)).toEqual([{ previous: epoch(2, 10), current: epoch(4, 8), isBroken: true, heldThrough: 5 }]);
    expect([epochs.losses, epochs.breaks]).toEqual([1, 1]);
    stop();
    epochs.replace([epoch(5, 9)]);
    expect(told).toEqual([]);
    expect(epochs.current.no).toBe(5);
  });
});

describe("[LOG4] what a node knows to be committed", () => {
  const witness = (position: number) => ({ topic: "user:a", seq: position, position, id: `e${position}` });

  test("is the newest as it came, which may be below what others committed before it; what is read does not push it out", () => {
    const witnesses = new Witnesses();
    for (let position = 101; position <= 300; position++) witnesses.add(witness(position));
    witnesses.add(witness(90));
    witnesses.addRead(witness(5));
    expect(witnesses.newest).toEqual(witness(90));
    expect(witnesses.all).toHaveLength(64);
    expect(witnesses.all).toContainEqual(witness(90));
    witnesses.addRead(witness(95));
    expect(witnesses.newest).toEqual(witness(95));
    witnesses.forget();
    expect([witnesses.newest, witnesses.all]).toEqual([undefined, []]);
  });
});
