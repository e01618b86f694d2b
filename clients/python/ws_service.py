"""A client of ws-service: it connects, comes back, misses nothing, and hears nothing twice. One file, on `websockets` (10 or later).

    async with Client("ws://localhost:8086/ws", user_id="anna", topics=["conversation"]) as client:
        await client.send("lunch", "Who is hungry?")
        async for event in client:
            print(event.type, event.payload)

The words and the rules in brackets are those of docs/protocol.md.
"""
import asyncio
import json
import random
import uuid
from dataclasses import dataclass, field
from inspect import isawaitable
from typing import Any, Awaitable, Callable, Optional, Union
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import websockets

__all__ = ["Client", "Event", "ServerError", "Closed"]

BACKOFF_FIRST, BACKOFF_MOST = 0.5, 30.0
PING_EVERY, ANSWER_WITHIN = 20.0, 10.0
COMING_BACK = 4000
#: Requests of one subscription, at most [SUB4].
NAMES_MOST = 1000
#: Own sends that are remembered, for they come again after a line has broken.
OWN_MOST = 10_000
_HEADERS = "additional_headers" if int(websockets.__version__.split(".")[0]) >= 14 else "extra_headers"

Token = Union[str, Callable[[], Union[str, Awaitable[str]]]]


class ServerError(Exception):
    """The server's answer to a request [ENV4]. `retry_after` is in seconds."""

    def __init__(self, payload: dict):
        super().__init__(f"{payload['code']}: {payload['message']}")
        self.code: str = payload["code"]
        self.retryable: bool = payload["retryable"]
        self.field: Optional[str] = payload.get("field")
        self.retry_after: float = payload.get("retry_after_ms", 1000) / 1000


class Closed(Exception):
    """There is no connection, and it does not come back by itself [ENV5]; or one broke before a request was answered that may not be made twice."""

    def __init__(self, reason: str, code: Optional[int] = None):
        super().__init__(reason)
        self.code = code


@dataclass(frozen=True)
class Event:
    """A message of the server that answers nothing [ENV2]. Of the type `gap` are those of this client: of `payload["topics"]` something is
    missing for good, so load it anew [LOG4]."""

    type: str
    payload: dict
    id: Optional[str] = None
    timestamp: Optional[str] = None
    topic: Optional[str] = None
    seq: Optional[int] = None
    position: Optional[int] = None


@dataclass
class _Asked:
    type: str
    payload: dict
    sent: bool = False
    answer: "asyncio.Future[dict]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    @property
    def repeatable(self) -> bool:
        """Whether the contract makes a second sending harmless [LOG2] [SUB4]."""
        if self.type == "publish":
            return "event_key" in self.payload
        if self.type == "event.send":
            return "client_event_id" in self.payload
        return not self.type.startswith(("call.", "admin."))


class Client:
    """
    :param user_id: who this is, where the server believes it (`auth.mode: trusted`)
    :param token: a JWT, or what gives one for each connection and refresh; a coroutine function may
    :param device_id: which device this is; keep it, or let the server make one
    :param topics: names, whole or short, that are followed: `conversation:c1`, or `conversation` for all
    :param filters: for the short ones among them
    :param since: where to begin: a cursor that was kept, or `acked`; at the head where left out
    :param roles: `service`, `admin` or both, where the server believes it
    :param backlog: so many events may wait for `async for`; then nothing more is read until there is room, unless a request waits for its answer
    """

    def __init__(
        self,
        url: str,
        *,
        user_id: Optional[str] = None,
        token: Optional[Token] = None,
        device_id: Optional[str] = None,
        topics: "list[str] | tuple[str, ...]" = (),
        filters: Optional[dict] = None,
        since: Optional[str] = None,
        roles: Optional[str] = None,
        backlog: int = 1000,
    ):
        if len(topics) > NAMES_MOST:
            raise ValueError(f"topics: at most {NAMES_MOST} names")
        self.user_id = user_id
        self.device_id = device_id
        #: Every event up to here has been given to `async for` [LOG4].
        self.cursor: Optional[str] = None if since == "acked" else since
        #: Extensions of the present connection, such as `permessage-deflate`.
        self.extensions: "list[str]" = []
        self._url, self._token, self._roles = url, token, roles
        self._scope = {"topics": list(topics), **({"filters": filters} if filters else {})}
        self._acked = since == "acked"
        self._backlog = backlog
        self._events: "asyncio.Queue[tuple[str, Any]]" = asyncio.Queue()
        self._room = asyncio.Event()
        self._full = False
        self._heard = asyncio.Event()
        self._asked: "dict[str, _Asked]" = {}
        self._numbers = 0
        self._had: "dict[str, int]" = {}
        self._own: "dict[tuple[str, int], None]" = {}
        self._socket: Any = None
        self._live = asyncio.Event()
        self._not_before = 0.0
        self._size_most: Optional[int] = None
        self._attempt = 0
        self._running: "Optional[asyncio.Task[None]]" = None
        self._end: Optional[Closed] = None

    async def __aenter__(self) -> "Client":
        self._running = asyncio.ensure_future(self._run())
        live = asyncio.ensure_future(self._live.wait())
        await asyncio.wait({live, self._running}, return_when=asyncio.FIRST_COMPLETED)
        if not self._live.is_set():
            live.cancel()
            raise self._end or Closed("stopped")
        return self

    async def __aexit__(self, *_: object) -> None:
        """Says goodbye: closes with 1000, which tells others that this user goes [PRE1]."""
        self._stop(Closed("stopped"))
        if self._socket is not None:
            await self._socket.close(1000)
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)

    def __aiter__(self) -> "Client":
        return self

    async def __anext__(self) -> Event:
        """The next event. @raises Closed where there will be none"""
        while True:
            if self._events.empty() and self._end is not None:
                raise self._end
            kind, value = await self._events.get()
            self._room.set()
            if kind == "event":
                return value
            if kind == "cursor":
                self.cursor = value

    async def request(self, type: str, payload: Optional[dict] = None, *, timeout: float = 15.0) -> dict:
        """
        Asks, now or once there is a connection; what may be asked twice is, where a line breaks. @returns the reply's payload
        @raises ServerError, Closed, asyncio.TimeoutError
        """
        if self._end is not None:
            raise self._end
        self._numbers += 1
        number = f"r{self._numbers}"
        asked = self._asked[number] = _Asked(type, payload or {})
        self._room.set()
        try:
            if self._live.is_set():
                await self._post(number, asked)
            return await asyncio.wait_for(asked.answer, timeout)
        finally:
            self._asked.pop(number, None)

    async def send(self, conversation_id: str, content: Any, *, client_message_id: Optional[str] = None) -> dict:
        """Sends a message once, however often it takes: `rate_limited` and `unavailable` are waited for. @returns the `ack` [MSG1]"""
        message = {"conversation_id": conversation_id, "client_message_id": client_message_id or str(uuid.uuid4()), "content": content}
        while True:
            try:
                return await self.request("message.send", message)
            except ServerError as error:
                if not error.retryable:
                    raise
                await asyncio.sleep(error.retry_after)
            except asyncio.TimeoutError:
                pass

    async def ack(self) -> None:
        """Says for good that this device has everything that `async for` has given: `since="acked"` goes on from there [LOG6]."""
        if self.cursor is not None:
            await self.request("ack", {"cursor": self.cursor})

    async def _run(self) -> None:
        refused = 0
        while self._end is None:
            wait = 0.0
            try:
                async with await self._connect() as socket:
                    refused = 0
                    await self._talk(socket)
            except websockets.ConnectionClosed as closed:
                code = closed.rcvd.code if closed.rcvd is not None else 1006
                # A token that has expired is followed by another one, where there is who gives it [AUTH3].
                if (4000 <= code < 4100 and code != COMING_BACK) or code == 1000 or (code == 4104 and not callable(self._token)):
                    self._stop(Closed(f"closed with {code} {closed.rcvd.reason if closed.rcvd else ''}".strip(), code))
                wait = 5.0 if code in (4103, 4105) else 0.0
            except (OSError, asyncio.TimeoutError, websockets.WebSocketException) as error:
                status = getattr(error, "status_code", None) or getattr(getattr(error, "response", None), "status_code", None)
                refused += status == 401
                if status in (400, 403, 404, 426) or (status == 401 and (not callable(self._token) or refused >= 3)):
                    self._stop(Closed(f"refused with HTTP {status}", status))
                headers = getattr(error, "headers", None) or getattr(getattr(error, "response", None), "headers", None) or {}
                told = headers.get("Retry-After", "")
                # Between here and the service somebody may say it as a date.
                wait = float(told) if told.isdigit() else 0.0
            except asyncio.CancelledError:
                raise
            except Exception as error:  # Of what gives tokens: tried again like a line.
                if self._token is None:
                    raise
                asyncio.get_running_loop().call_exception_handler({"message": "no token", "exception": error})
            self._lose()
            if self._end is None:
                backoff = random.random() * min(BACKOFF_MOST, BACKOFF_FIRST * 2**self._attempt)
                self._attempt = min(self._attempt + 1, 16)
                await asyncio.sleep(max(wait, self._not_before - asyncio.get_running_loop().time()) + backoff)

    async def _connect(self) -> Any:
        parts = urlsplit(self._url)
        named = {"user_id": self.user_id, "device_id": self.device_id, "roles": self._roles}
        if self.user_id is not None and self._token is not None:
            del named["user_id"]
        # The user's own topics go on from there as well [SUB2].
        named["since"] = "acked" if self._acked and self.cursor is None else self.cursor
        query = urlencode([*parse_qsl(parts.query), *((name, value) for name, value in named.items() if value is not None)])
        token = await self._take_token()
        # In a header, and not in the URL: it stands in no log, and whoever is known may compress.
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        options = {_HEADERS: headers, "ping_interval": None, "max_size": None, "subprotocols": ["ws-service.v1.json"]}
        return websockets.connect(urlunsplit(parts._replace(query=query)), **options)

    async def _take_token(self) -> Optional[str]:
        if not callable(self._token):
            return self._token
        given = self._token()
        return await asyncio.wait_for(given, 15.0) if isawaitable(given) else given

    async def _talk(self, socket: Any) -> None:
        self._socket = socket
        self.extensions = [extension.name for extension in getattr(socket, "protocol", socket).extensions]
        if self._scope["topics"]:
            await self._subscribe()
        upkeep = asyncio.ensure_future(self._upkeep(socket))
        try:
            if not self._scope["topics"]:
                await self._go_live()
            while True:
                while self._live.is_set() and self._events.qsize() >= self._backlog and not self._asked:
                    self._full = True
                    self._room.clear()
                    await self._room.wait()
                if self._full:
                    # Whatever has come meanwhile is read only now.
                    self._full = False
                    self._heard.set()
                await self._take(json.loads(await socket.recv()))
        finally:
            upkeep.cancel()

    async def _subscribe(self) -> None:
        since: Any = "acked" if self._acked and self.cursor is None else self.cursor and {"cursor": self.cursor}
        await self._socket.send(json.dumps({"id": "~s", "type": "subscribe", "payload": {**self._scope, **({"since": since} if since else {})}}))

    async def _upkeep(self, socket: Any) -> None:
        """Asks for the cursor now and then, and gives up a line that is dead without saying so: with a code, so that nobody sees a goodbye."""
        while True:
            await asyncio.sleep(PING_EVERY)
            self._heard.clear()
            await socket.send('{"id":"~p","type":"ping"}')
            try:
                await asyncio.wait_for(self._heard.wait(), ANSWER_WITHIN)
            except asyncio.TimeoutError:
                if self._full:
                    continue
                await socket.close(COMING_BACK)
                return

    async def _take(self, message: dict) -> None:
        self._heard.set()
        kind, payload, reply_to = message["type"], message["payload"], message.get("reply_to")
        if kind == "connected":
            self.device_id, self.user_id, self._size_most = payload["device_id"], payload["user_id"], payload["max_message_size"]
        elif kind == "draining":
            self._not_before = asyncio.get_running_loop().time() + payload["reconnect_after_ms"] / 1000
        elif kind == "auth.expiring" and callable(self._token):
            asyncio.ensure_future(self._refresh())
        elif kind == "subscribed":
            await self._note_subscribed(payload, reply_to)
        elif kind == "pong" and self._live.is_set() and "cursor" in payload:
            await self._events.put(("cursor", payload["cursor"]))
        elif kind == "error" and reply_to == "~s":
            if not payload["retryable"]:
                self._stop(Closed(str(ServerError(payload))))
                await self._socket.close(1000)
                return
            asyncio.ensure_future(self._subscribe_later(self._socket, payload.get("retry_after_ms", 1000) / 1000))
        # What was refused of the topics, and the snapshots, are in the answer.
        if reply_to is None or (reply_to == "~s" and kind == "subscribed"):
            await self._note_event(message)
            return
        if kind == "ack" and "seq" in payload and not payload.get("duplicate"):
            # It comes again after coming back, and was made here [SUB6].
            self._own[(payload["topic"], payload["seq"])] = None
            if len(self._own) > OWN_MOST:
                del self._own[next(iter(self._own))]
        asked = self._asked.get(reply_to)
        if asked is not None and not asked.answer.done():
            if kind == "error":
                asked.answer.set_exception(ServerError(payload))
            else:
                asked.answer.set_result(payload)

    async def _note_subscribed(self, payload: dict, reply_to: Optional[str]) -> None:
        lost = [topic["topic"] for topic in payload["topics"] if topic.get("recovered") is False]
        for topic in payload["topics"]:
            if topic["topic"] in lost:  # Numbers may be given again.
                self._had[topic["topic"]] = topic.get("seq", 0)
                self._own = {own: None for own in self._own if own[0] != topic["topic"]}
        if lost:
            await self._events.put(("event", Event("gap", {"topics": lost})))
        # While topics are still coming back the new cursor does not speak for all of them.
        if reply_to == "~s" or (self._live.is_set() and reply_to is None):
            await self._events.put(("cursor", payload["cursor"]))
        if reply_to == "~s":
            await self._go_live()

    async def _go_live(self) -> None:
        self._attempt = 0
        self._own.clear()
        self._live.set()
        for number, asked in list(self._asked.items()):
            await self._post(number, asked)

    async def _note_event(self, message: dict) -> None:
        topic, seq = message.get("topic"), message.get("seq")
        if topic is not None and seq is not None:
            if seq <= self._had.get(topic, 0):
                return
            self._had[topic] = seq
            if (topic, seq) in self._own:
                return
        known = {name: message.get(name) for name in ("id", "timestamp", "topic", "seq", "position")}
        await self._events.put(("event", Event(message["type"], message["payload"], **known)))

    async def _refresh(self) -> None:
        """A failure is no end: the connection lives until its token does, and comes back with another [AUTH1]."""
        try:
            token = await self._take_token()
            await self._socket.send(json.dumps({"id": "~a", "type": "authenticate", "payload": {"token": token}}))
        except Exception as error:
            asyncio.get_running_loop().call_exception_handler({"message": "no token", "exception": error})

    async def _subscribe_later(self, socket: Any, seconds: float) -> None:
        await asyncio.sleep(seconds)
        if self._socket is socket:
            await self._subscribe()

    async def _post(self, number: str, asked: _Asked) -> None:
        text = json.dumps({"id": number, "type": asked.type, "payload": asked.payload})
        if self._size_most is not None and len(text.encode()) > self._size_most:
            # Sent, it would end the line, and the next one [ENV6].
            if not asked.answer.done():
                asked.answer.set_exception(ServerError({"code": "message_too_large", "message": f"more than {self._size_most} bytes", "retryable": False}))
            return
        asked.sent = True
        try:
            await self._socket.send(text)
        except websockets.ConnectionClosed:
            pass  # Told by whoever reads.

    def _lose(self) -> None:
        self._live.clear()
        self._socket = None
        for asked in self._asked.values():
            if asked.sent and not asked.repeatable and not asked.answer.done():
                asked.answer.set_exception(Closed("the connection broke: it may have happened or not"))
            asked.sent = False

    def _stop(self, end: Closed) -> None:
        if self._end is not None:
            return
        self._end = end
        for asked in self._asked.values():
            if not asked.answer.done():
                asked.answer.set_exception(end)
        if self._events.empty():
            self._events.put_nowait(("end", end))
