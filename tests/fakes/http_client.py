"""A client of the API on http.client with keep-alive, which checks on every answer what API.md promises
of all answers; and raw() for what no HTTP library would send."""
import base64
import http.client
import json
import re
import socket
import urllib.parse

from .support import PASSWORD, deadline

REQUEST_ID = re.compile(r"^[A-Za-z0-9._-]{1,64}$")
VERSION = re.compile(r"^[A-Za-z0-9._-]{1,64}$")
PROBLEM_MEMBERS = {"type", "title", "status", "detail", "code", "instance"}


class Response:
    def __init__(self, status, headers, body):
        self.status = status
        self.headers = headers           # email.message.Message: case-insensitive
        self.body = body

    def json(self):
        return json.loads(self.body)

    def header(self, name):
        return self.headers.get(name)

    @property
    def code(self):
        """The problem's code; None if this is no problem."""
        if not (self.header("Content-Type") or "").startswith("application/problem+json"):
            return None
        return self.json()["code"]

    @property
    def version(self):
        return self.header("Rostergate-Version")

    def __repr__(self):
        return f"<{self.status} {self.body[:400]!r}>"


def check_promises(response, method):
    """API.md sections 1, 6 and 7: what every answer has."""
    request_id = response.header("X-Request-Id")
    assert request_id and REQUEST_ID.match(request_id), f"X-Request-Id {request_id!r}"
    if response.version is not None:
        assert VERSION.match(response.version), response.version
    if response.status >= 400 and method != "HEAD":
        kind = response.header("Content-Type")
        assert kind and kind.startswith("application/problem+json"), f"{kind} {response!r}"
        problem = response.json()
        assert PROBLEM_MEMBERS <= set(problem) <= PROBLEM_MEMBERS | {"xmpp"}, problem
        assert problem["status"] == response.status, problem
        assert problem["type"] == "/v1/problems/" + problem["code"], problem
        assert problem["instance"] == request_id, problem
        if response.status == 401:
            assert response.header("WWW-Authenticate") == "Bearer", response.headers
        if response.status in (429, 503) and problem["code"] != "not-attempted":
            retry = response.header("Retry-After")
            assert retry is None or retry.isdigit(), retry
        if response.status == 405:
            assert response.header("Allow"), response.headers
    return response


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self.unix_path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.unix_path)


class Api:
    """address: (host, port) or a Unix socket's path. One keep-alive connection; not for threads."""

    def __init__(self, address, token=None, headers=None):
        self.address = address
        self.token = token
        self.headers = dict(headers or {})
        self._connection = None

    # --- connection -----------------------------------------------------------------------------
    def connect(self):
        """A new socket to the gateway."""
        if isinstance(self.address, str):
            sock = socket.socket(socket.AF_UNIX)
            sock.settimeout(deadline(20))
            sock.connect(self.address)
            return sock
        return socket.create_connection(self.address, timeout=deadline(20))

    def close(self):
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def with_token(self, token):
        return Api(self.address, token, self.headers)

    def call(self, method, path, body=None, *, json_body=None, headers=None, token=False,
             check=True, content_type=None):
        """token False: the client's own; None: none. json_body sets the content type too."""
        sent = dict(self.headers)
        token = self.token if token is False else token
        if token is not None:
            sent["Authorization"] = "Bearer " + token
        if json_body is not None:
            body = json.dumps(json_body).encode()
            sent["Content-Type"] = content_type or "application/json"
        elif content_type is not None:
            sent["Content-Type"] = content_type
        sent.update(headers or {})
        sent = {key: value for key, value in sent.items() if value is not None}
        response = self._send(method, path, body, sent)
        return check_promises(response, method) if check else response

    def _send(self, method, path, body, headers):
        for attempt in (1, 2):
            reused = self._connection is not None
            if not reused:
                if isinstance(self.address, str):
                    self._connection = _UnixConnection(self.address, deadline(30))
                else:
                    self._connection = http.client.HTTPConnection(*self.address,
                                                                  timeout=deadline(30))
            try:
                self._connection.request(method, path, body, headers)
                answer = self._connection.getresponse()
                response = Response(answer.status, answer.headers, answer.read())
                if answer.will_close:
                    self.close()
                return response
            except (http.client.RemoteDisconnected, ConnectionError):
                self.close()
                # Only a connection that was kept open may have been closed meanwhile.
                if attempt == 2 or not reused:
                    raise
        raise AssertionError("not reached")

    # --- calls ----------------------------------------------------------------------------------
    def get(self, path, **how):
        return self.call("GET", path, **how)

    def put(self, path, json_body=None, **how):
        return self.call("PUT", path, json_body=json_body, **how)

    def post(self, path, json_body=None, **how):
        return self.call("POST", path, json_body=json_body, **how)

    def patch(self, path, json_body=None, **how):
        return self.call("PATCH", path, json_body=json_body,
                         content_type="application/merge-patch+json", **how)

    def delete(self, path, **how):
        return self.call("DELETE", path, **how)

    def try_sign_in(self, jid, password=PASSWORD, **members):
        return self.post("/v1/session", {"jid": jid, "password": password, **members}, token=None)

    def sign_in(self, jid, password=PASSWORD, **members):
        """A new client with the token of a fresh sign-in; its answer is `.session`."""
        response = self.try_sign_in(jid, password, **members)
        assert response.status == 201, response
        client = self.with_token(response.json()["token"])
        client.session = response.json()
        client.signed_in = response
        return client

    def roster(self):
        response = self.get("/v1/roster")
        assert response.status == 200, response
        return response.json()

    def items(self):
        """The roster as {jid: item}."""
        return {item["jid"]: item for item in self.roster()["items"]}

    @staticmethod
    def item_path(jid):
        return "/v1/roster/items/" + urllib.parse.quote(jid, safe="@")

    def put_item(self, jid, name=None, groups=None, **how):
        body = {}
        if name is not None:
            body["name"] = name
        if groups is not None:
            body["groups"] = groups
        return self.put(self.item_path(jid), body, **how)

    def delete_item(self, jid, **how):
        return self.delete(self.item_path(jid), **how)

    # --- below HTTP -----------------------------------------------------------------------------
    def raw(self, data, timeout=10, parts=None):
        """Sends the bytes (or parts, one after another) on a connection of its own and returns all
        that comes back until the gateway closes or, with one complete answer there, at once."""
        with self.connect() as sock:
            sock.settimeout(deadline(timeout))
            for part in parts or [data]:
                sock.sendall(part)
            got = b""
            while True:
                try:
                    more = sock.recv(65536)
                except ConnectionResetError:
                    return got
                if not more:
                    return got
                got += more
                if _complete(got):
                    return got


def _complete(data):
    head, separator, body = data.partition(b"\r\n\r\n")
    if not separator:
        return False
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    if length is None:
        return b"\r\n0\r\n\r\n" in data if b"chunked" in head.lower() else head.split(b" ")[1] in (
            b"204", b"304")
    return len(body) >= int(length[1])


def raw_status(data):
    """The status of raw bytes that came back; None if there is none."""
    match = re.match(rb"HTTP/1\.1 (\d{3}) ", data)
    return int(match[1]) if match else None


def basic(user, password):
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
