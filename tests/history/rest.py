"""A lean HTTP/1.1 client and event-stream reader for the gateway's API, on asyncio."""
import asyncio
import json


class Lost(Exception):
    """No whole answer came: what was asked may or may not have happened."""


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def json(self):
        if not self.body:
            return None
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    @property
    def code(self):
        data = self.json() if self.status >= 400 else None
        return data.get("code") if isinstance(data, dict) else None


async def read_head(reader):
    line = await reader.readline()
    if not line:
        raise ConnectionError("closed before an answer")
    status = int(line.split()[1])
    headers = {}
    while True:
        line = await reader.readline()
        if line in (b"\r\n", b"\n"):
            return status, headers
        if not line:
            raise ConnectionError("closed inside the head")
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()


async def read_chunk(reader):
    """b'' at the end of a chunked body."""
    size = int((await reader.readline()).split(b";")[0] or b"x", 16)
    data = await reader.readexactly(size)
    await reader.readexactly(2)
    return data


async def read_body(reader, status, headers, method):
    if method == "HEAD" or status in (204, 304):
        return b""
    if headers.get("transfer-encoding", "").lower() == "chunked":
        body = b""
        while True:
            chunk = await read_chunk(reader)
            if not chunk:
                return body
            body += chunk
    if "content-length" in headers:
        return await reader.readexactly(int(headers["content-length"]))
    return await reader.read(-1)


class Client:
    """One keep-alive connection, one request at a time. `limit` seconds for an answer."""

    def __init__(self, host, port, limit):
        self.host, self.port, self.limit = host, port, limit
        self.link = None
        self.token = None

    async def ask(self, method, path, body=None, headers=()):
        try:
            return await asyncio.wait_for(self.exchange(method, path, body, dict(headers)), self.limit)
        except asyncio.TimeoutError:
            self.drop()
            raise Lost("timeout") from None
        except (OSError, EOFError, ValueError, asyncio.IncompleteReadError) as error:
            self.drop()
            raise Lost(repr(error)) from None
        except asyncio.CancelledError:
            self.drop()
            raise

    async def exchange(self, method, path, body, headers):
        if self.link is None:
            self.link = await asyncio.open_connection(self.host, self.port)
        reader, writer = self.link
        head = [f"{method} {path} HTTP/1.1", f"Host: {self.host}:{self.port}"]
        if self.token:
            head.append(f"Authorization: Bearer {self.token}")
        data = b"" if body is None else json.dumps(body).encode()
        if body is not None:
            headers.setdefault("Content-Type", "application/json")
            head.append(f"Content-Length: {len(data)}")
        head += [f"{name}: {value}" for name, value in headers.items()]
        writer.write("\r\n".join(head).encode() + b"\r\n\r\n" + data)
        status, answered = await read_head(reader)
        content = await read_body(reader, status, answered, method)
        if answered.get("connection", "").lower() == "close":
            self.drop()
        return Answer(status, answered, content)

    def drop(self):
        if self.link is not None:
            self.link[1].transport.abort()
            self.link = None


class EventStream:
    """GET /v1/events. `next` returns (event, id, data) or None at the end of the stream."""

    def __init__(self, host, port, token):
        self.host, self.port, self.token = host, port, token
        self.writer = None
        self.buffer = b""
        self.done = False
        self.reading = None

    async def open(self, query="", last_event_id=None):
        """Returns the status and, if it is not 200, the problem's code."""
        self.reader, self.writer = await asyncio.open_connection(self.host, self.port)
        head = [f"GET /v1/events{query} HTTP/1.1", f"Host: {self.host}:{self.port}",
                f"Authorization: Bearer {self.token}", "Accept: text/event-stream"]
        if last_event_id is not None:
            head.append(f"Last-Event-ID: {last_event_id}")
        self.writer.write("\r\n".join(head).encode() + b"\r\n\r\n")
        status, self.headers = await read_head(self.reader)
        if status != 200:
            body = await read_body(self.reader, status, self.headers, "GET")
            return status, Answer(status, self.headers, body).code
        self.chunked = self.headers.get("transfer-encoding", "").lower() == "chunked"
        return status, None

    async def more(self):
        data = await (read_chunk(self.reader) if self.chunked else self.reader.read(65536))
        if not data:
            self.done = True
        self.buffer += data

    async def next_within(self, seconds):
        """As next; False if nothing came in time. The read then goes on: a cancelled one could
        lose half an event."""
        if self.reading is None:
            self.reading = asyncio.ensure_future(self.next())
        done, _ = await asyncio.wait([self.reading], timeout=seconds)
        if not done:
            return False
        reading, self.reading = self.reading, None
        return reading.result()

    async def next(self):
        while True:
            block, separator, rest = self.buffer.partition(b"\n\n")
            if separator:
                self.buffer = rest
                event = self.parse(block.decode())
                if event is not None:
                    return event
            elif self.done:
                return None
            else:
                await self.more()

    @staticmethod
    def parse(block):
        kind, ident, data = "message", None, []
        for line in block.split("\n"):
            name, _, value = line.partition(":")
            value = value[1:] if value.startswith(" ") else value
            if name == "event":
                kind = value
            elif name == "id":
                ident = value
            elif name == "data":
                data.append(value)
        return (kind, ident, json.loads("\n".join(data))) if data else None

    def close(self):
        if self.reading is not None:
            self.reading.cancel()
        if self.writer is not None:
            self.writer.transport.abort()
