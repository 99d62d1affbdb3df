"""The server's side of SASL PLAIN (RFC 4616) and SCRAM-SHA-1 (RFC 5802), as far as a test needs."""
import base64
import hashlib
import hmac
import os


class Refused(Exception):
    """The condition to put into <failure/>."""


class Plain:
    name = "PLAIN"

    def __init__(self, password_of):
        self.password_of = password_of
        self.user = None

    def step(self, data):
        """Returns (done, answer); raises Refused."""
        parts = data.split(b"\0")
        if len(parts) != 3:
            raise Refused("malformed-request")
        self.user = parts[1].decode("utf-8")
        if self.password_of(self.user) != parts[2].decode("utf-8"):
            raise Refused("not-authorized")
        return True, None


class ScramSha1:
    name = "SCRAM-SHA-1"
    iterations = 4096
    _salted = {}

    def __init__(self, password_of):
        self.password_of = password_of
        self.user = None
        self._first = None

    def step(self, data):
        return self._client_first(data) if self._first is None else self._client_final(data)

    def _client_first(self, data):
        header, _, bare = data.decode("utf-8").partition(",,")
        if header not in ("n", "y"):
            raise Refused("malformed-request")
        fields = dict(part.split("=", 1) for part in bare.split(","))
        self.user = fields["n"].replace("=2C", ",").replace("=3D", "=")
        self._nonce = fields["r"] + base64.b64encode(os.urandom(12)).decode()
        self._salt = hashlib.sha256(self.user.encode()).digest()[:12]
        self._first = bare
        self._challenge = (f"r={self._nonce},s={base64.b64encode(self._salt).decode()},"
                           f"i={self.iterations}")
        self._gs2 = base64.b64encode((header + ",,").encode()).decode()
        return False, self._challenge.encode()

    def _client_final(self, data):
        text = data.decode("utf-8")
        without_proof, _, proof = text.rpartition(",p=")
        fields = dict(part.split("=", 1) for part in without_proof.split(","))
        if fields.get("r") != self._nonce or fields.get("c") != self._gs2:
            raise Refused("malformed-request")
        password = self.password_of(self.user)
        if password is None:
            raise Refused("not-authorized")
        message = ",".join((self._first, self._challenge, without_proof)).encode()
        salted = self._salt_password(password)
        client_key = hmac.digest(salted, b"Client Key", "sha1")
        signature = hmac.digest(hashlib.sha1(client_key).digest(), message, "sha1")
        wanted = bytes(a ^ b for a, b in zip(client_key, signature))
        if not hmac.compare_digest(wanted, base64.b64decode(proof)):
            raise Refused("not-authorized")
        server_key = hmac.digest(salted, b"Server Key", "sha1")
        return True, b"v=" + base64.b64encode(hmac.digest(server_key, message, "sha1"))

    def _salt_password(self, password):
        key = (password, self._salt)
        if key not in self._salted:
            self._salted[key] = hashlib.pbkdf2_hmac("sha1", password.encode(), self._salt,
                                                    self.iterations)
        return self._salted[key]


MECHANISMS = {m.name: m for m in (Plain, ScramSha1)}
