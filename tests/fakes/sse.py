"""A client of Server-Sent Events: its own small HTTP reading, so that the end of the stream is seen as it
is, and the parser of the WHATWG text, strictly. Every stream also checks API.md section 5 as it reads:
ids never go back within a prefix, nothing follows `bye`."""
import json
import socket
import threading
import time

from .support import Recorder, deadline


class Event:
    def __init__(self, name, data, id_, at):
        self.name = name
        self.data = data
        self.id = id_                # None: the event had no id field
        self.at = at

    @property
    def json(self):
        return json.loads(self.data)

    def __repr__(self):
        return f"<{self.name} {self.id} {self.data[:200]}>"


class Parser:
    """https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream"""

    def __init__(self, on_event, on_comment, on_retry):
        self.on_event, self.on_comment, self.on_retry = on_event, on_comment, on_retry
        self._rest = b""
        self._started = False
        self._reset()

    def _reset(self):
        self.name, self.lines, self.id = "", [], None

    def feed(self, data):
        if not self._started:
            self._started = True
            assert not data.startswith(b"\xef\xbb\xbf"), "a byte order mark"
        self._rest += data
        # The gateway writes LF only; a lone CR would be a line end for a browser, so none may come.
        assert b"\r" not in self._rest, f"CR in the stream: {self._rest[:200]!r}"
        *lines, self._rest = self._rest.split(b"\n")
        for line in lines:
            self._line(line.decode("utf-8"))      # strict: invalid UTF-8 is an error

    def _line(self, line):
        if line == "":
            if self.lines:
                self.on_event(self.name or "message", "\n".join(self.lines), self.id)
            self._reset()
            return
        if line.startswith(":"):
            self.on_comment(line[1:])
            return
        field, _, value = line.partition(":")
        value = value[1:] if value.startswith(" ") else value
        if field == "event":
            self.name = value
        elif field == "data":
            self.lines.append(value)
        elif field == "id":
            assert "\0" not in value
            self.id = value
        elif field == "retry":
            assert value.isdigit(), value
            self.on_retry(int(value))
        else:
            raise AssertionError(f"unknown field {field!r}")


class SseClient:
    """Opens GET /v1/events and reads in a thread until the end. `status` and `headers` are there when
    the constructor returns; with another status than 200 `body` is the answer."""

    def __init__(self, api, query="", headers=None, last_event_id=None, path="/v1/events",
                 receive_buffer=None, read=True):
        self.events = Recorder()
        self.comments = Recorder()
        self.retry = None
        self.first = None            # what came first: "retry", "comment" or an event's name
        self.error = None
        self.ended = threading.Event()
        self.ended_properly = False  # the last chunk was there
        self._last = {}
        sent = {"Host": "localhost", "Accept": "text/event-stream", **api.headers}
        if api.token is not None:
            sent["Authorization"] = "Bearer " + api.token
        if last_event_id is not None:
            sent["Last-Event-ID"] = last_event_id
        sent.update(headers or {})
        head = f"GET {path}{'?' + query if query else ''} HTTP/1.1\r\n" + "".join(
            f"{key}: {value}\r\n" for key, value in sent.items()) + "\r\n"
        self.sock = self._connect(api.address, receive_buffer)
        self.sock.sendall(head.encode("latin-1"))
        self._buffer = b""
        self._parser = Parser(self._event, self._comment, self._retry)
        self._read_head()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self._reading = read
        if self.status == 200 and read:
            self.thread.start()

    @staticmethod
    def _connect(address, receive_buffer):
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        sock = socket.socket(family)
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.settimeout(deadline(20))
        sock.connect(address if isinstance(address, str) else tuple(address))
        return sock

    # --- HTTP -----------------------------------------------------------------------------------
    def _more(self):
        data = self.sock.recv(65536)
        if not data:
            raise EOFError
        self._buffer += data

    def _until(self, mark):
        while mark not in self._buffer:
            self._more()
        part, _, self._buffer = self._buffer.partition(mark)
        return part

    def _exactly(self, n):
        while len(self._buffer) < n:
            self._more()
        part, self._buffer = self._buffer[:n], self._buffer[n:]
        return part

    def _read_head(self):
        lines = self._until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        self.status = int(lines[0].split(" ")[1])
        self.headers = {}
        for line in lines[1:]:
            key, _, value = line.partition(":")
            self.headers[key.strip().lower()] = value.strip()
        self.body = b""
        if self.status != 200:
            self.body = self._exactly(int(self.headers.get("content-length", "0")))
            self.sock.close()
            self.ended.set()

    def problem(self):
        return json.loads(self.body)

    def start_reading(self):
        self._reading = True
        self.thread.start()

    def _run(self):
        self.sock.settimeout(None)
        try:
            if self.headers.get("transfer-encoding") == "chunked":
                while True:
                    size = int(self._until(b"\r\n").split(b";")[0], 16)
                    data = self._exactly(size)
                    assert self._exactly(2) == b"\r\n", "chunk without end"
                    if size == 0:
                        self.ended_properly = True
                        break
                    self._parser.feed(data)
            else:
                while True:
                    self._parser.feed(self._buffer)
                    self._buffer = b""
                    self._more()
        except (EOFError, OSError):
            pass
        except Exception as error:       # pylint: disable=broad-except
            self.error = error
        finally:
            self.ended.set()
            self.events.poke()
            self.comments.poke()

    # --- events ---------------------------------------------------------------------------------
    def _note_first(self, what):
        if self.first is None:
            self.first = what

    def _event(self, name, data, id_):
        self._note_first(name)
        event = Event(name, data, id_, time.monotonic())
        try:
            self._check(event)
        except AssertionError as error:
            self.error = error
            raise
        finally:
            self.events.add(event)

    def _check(self, event):
        seen = self.events.all()
        assert not (seen and seen[-1].name == "bye"), f"{event!r} after bye"
        body = event.json
        carries_id = event.name in ("roster", "roster.set", "roster.remove") or (
            event.name == "sync" and body["version"] is not None)
        assert (event.id is not None) == carries_id, f"id of {event!r}"
        if event.id is not None:
            assert event.id == body["version"], event
            prefix, _, seq = event.id.rpartition("-")
            assert int(seq) >= self._last.get(prefix, 0), f"{event!r} goes back"
            if event.name in ("roster.set", "roster.remove"):
                assert int(seq) > self._last.get(prefix, -1), f"{event!r} repeats"
            self._last[prefix] = int(seq)

    def _comment(self, text):
        self._note_first("comment")
        self.comments.add((time.monotonic(), text))

    def _retry(self, value):
        self._note_first("retry")
        self.retry = value

    # --- for tests ------------------------------------------------------------------------------
    def wait_for(self, predicate, timeout=10, since=0):
        """predicate: a function of an Event, or an event's name."""
        wanted = predicate if callable(predicate) else lambda e: e.name == predicate
        event = self.events.wait_for(wanted, timeout, since,
                                     what=predicate if isinstance(predicate, str) else "event")
        assert self.error is None, self.error
        return event

    def wait_sync(self, timeout=10):
        return self.wait_for("sync", timeout)

    def wait_item(self, jid, name=None, timeout=10, since=0):
        """roster.set of this JID (with this name)."""
        return self.wait_for(lambda e: e.name == "roster.set" and e.json["item"]["jid"] == jid
                             and (name is None or e.json["item"]["name"] == name), timeout, since)

    def wait_removed(self, jid, timeout=10, since=0):
        return self.wait_for(lambda e: e.name == "roster.remove" and e.json["jid"] == jid, timeout,
                             since)

    def wait_end(self, timeout=10):
        assert self.ended.wait(deadline(timeout)), "the stream goes on"
        assert self.error is None, self.error

    def names(self):
        return [event.name for event in self.events.all()]

    def last_id(self):
        ids = [event.id for event in self.events.all() if event.id is not None]
        return ids[-1] if ids else None

    def roster(self):
        """What a client that follows the rules holds now: {jid: item}."""
        held = None
        for event in self.events.all():
            if event.name == "roster":
                held = {item["jid"]: item for item in event.json["items"]}
            elif event.name == "roster.set":
                held = {} if held is None else held
                held[event.json["item"]["jid"]] = event.json["item"]
            elif event.name == "roster.remove" and held is not None:
                held.pop(event.json["jid"], None)
        return held

    def close(self):
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.sock.close()
        if self.thread.is_alive():
            self.thread.join(deadline(5))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
