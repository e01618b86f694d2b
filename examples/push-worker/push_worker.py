"""Asks a push service to wake those who have missed something: `pip install websockets`, then `python3 push_worker.py`."""
import asyncio, collections, concurrent.futures, functools, json, os, random, sys, time, urllib.request, websockets

WS_URL = os.environ.get("WS_URL", "ws://127.0.0.1:8086/ws?user_id=push&roles=service&device_id=push-worker-py")
PUSH_URL = os.environ.get("PUSH_URL", "http://127.0.0.1:9000/push")
# Statuses of a push that is tried again; one that was not answered has 503.
not_yet = {429, *range(300, 400), *range(500, 600)}
posts = concurrent.futures.ThreadPoolExecutor(32)
done = collections.deque(maxlen=10_000)
# Why the last connection ended is said once, and not after each try.
say = functools.lru_cache(1)(lambda why: print("coming back:", why, file=sys.stderr))


async def wake(user_id, key, about, wait=0.25):
    """Tries until it is taken, or refused for good; the key lets the push service drop what it has had before."""
    headers = {"content-type": "application/json", "idempotency-key": key}
    request = urllib.request.Request(PUSH_URL, json.dumps({"to": user_id, "about": about}).encode(), headers)
    post = lambda: asyncio.wrap_future(posts.submit(urllib.request.urlopen, request, timeout=10))
    while getattr((await asyncio.gather(post(), return_exceptions=True))[0], "code", 503) in not_yet:
        await asyncio.sleep(wait := min(wait * 2, 30))


async def follow():
    # It reads on while pushes wait, however much comes: so it learns at once that the line has ended.
    async with websockets.connect(WS_URL, max_queue=None, max_size=None) as socket:
        send = lambda kind, **payload: socket.send(json.dumps({"id": kind, "type": kind, "payload": payload}))
        closed = asyncio.ensure_future(socket.wait_closed())
        await send("subscribe", topics=["missed"], since="acked")
        while True:  # One after the other, so that all is done that came before a cursor.
            match json.loads(await socket.recv()):
                case {"type": "delivery.missed" | "call.unreached" as event, "id": id, "payload": about} if id not in done:
                    users = about.pop("user_ids", None) or [about["to_user_id"]]
                    pushes = [asyncio.ensure_future(wake(user, f"{id}:{user}", {"event": event, **about})) for user in users]
                    await asyncio.wait([asyncio.ensure_future(asyncio.wait(pushes)), closed], return_when="FIRST_COMPLETED")
                    # Raises where the line has ended first. What is not done then is sent again.
                    await (socket.ping() if closed.done() else asyncio.gather(*pushes))
                    done.append(id)
                case {"type": "error", "payload": why} | {"payload": {"rejected": [_, *_]} as why}:
                    raise OSError(why)
                case {"reply_to": "subscribe" | "ping", "payload": {"cursor": cursor}}:
                    await send("ack", cursor=cursor)
                    say.cache_clear()
                    # The line may be gone by then, which `recv` tells.
                    asyncio.get_running_loop().call_later(1, lambda: asyncio.gather(send("ping"), return_exceptions=True))


while True:
    try:
        asyncio.run(follow())
    except (OSError, asyncio.TimeoutError, websockets.WebSocketException) as end:
        if 4000 < getattr(getattr(end, "rcvd", None), "code", 0) < 4100:
            sys.exit(f"not coming back: {end}")
        say(f"{type(end).__name__} {end}")
        time.sleep(random.random() * 2)
