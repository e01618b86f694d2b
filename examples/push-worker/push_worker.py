"""Asks a push service to wake those who have missed something: `pip install websockets`, then `python3 push_worker.py`."""
import asyncio, collections, json, os, random, sys, urllib.request, websockets

WS_URL = os.environ.get("WS_URL", "ws://127.0.0.1:8086/ws?user_id=push&roles=service&device_id=push-worker-py")
PUSH_URL = os.environ.get("PUSH_URL", "http://127.0.0.1:9000/push")
done = collections.deque(maxlen=10_000)
said = collections.deque(maxlen=1)  # Why the last connection ended: printed once, and not after each try.


def is_over(user_id, key, about):
    """Whether it is taken, or refused for good; the key lets the push service drop what it has had before."""
    headers = {"content-type": "application/json", "idempotency-key": key}
    body = json.dumps({"to": user_id, "about": about}).encode()
    try:
        return urllib.request.urlopen(urllib.request.Request(PUSH_URL, body, headers), timeout=10).status < 500
    except OSError as refusal:
        return 400 <= getattr(refusal, "code", 0) < 500 and refusal.code != 429


async def wake(user_id, key, about, wait=0.5):
    while not await asyncio.to_thread(is_over, user_id, key, about):
        await asyncio.sleep(wait := min(wait * 2, 30))


async def follow(socket):
    send = lambda kind, **payload: socket.send(json.dumps({"id": kind, "type": kind, "payload": payload}))
    await send("subscribe", topics=["missed"], since="acked")
    while True:  # One after the other, so that all is done that came before a cursor.
        message = json.loads(await asyncio.wait_for(socket.recv(), 30))
        kind, reply_to, payload = message["type"], message.get("reply_to"), message["payload"]
        if kind in ("delivery.missed", "call.unreached") and message["id"] not in done:
            users = payload.pop("user_ids", None) or [payload["to_user_id"]]
            await asyncio.gather(*(wake(user, f"{message['id']}:{user}", {"event": kind, **payload}) for user in users))
            done.append(message["id"])  # Where the line breaks before it is acknowledged, it is sent again.
        elif kind == "error" or payload.get("rejected"):
            raise OSError(payload)
        elif reply_to == "ack":
            said.clear()  # The line may be gone by then, which `recv` tells.
            asyncio.get_running_loop().call_later(1, lambda: asyncio.gather(send("ping"), return_exceptions=True))
        elif reply_to is not None:
            await send("ack", cursor=payload["cursor"])


async def main():
    while True:
        try:
            async with websockets.connect(WS_URL, ping_timeout=None, max_size=None) as socket:
                await follow(socket)
        except (OSError, asyncio.TimeoutError, websockets.WebSocketException) as end:
            if 4000 < getattr(getattr(end, "rcvd", None), "code", 0) < 4100:
                sys.exit(f"not coming back: {end}")
            if str(end) not in said:
                print("coming back:", type(end).__name__, end, file=sys.stderr)
            said.append(str(end))
            await asyncio.sleep(random.random() * 2)


asyncio.run(main())
