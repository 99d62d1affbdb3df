"""A certificate authority for one test run, made by openssl; nothing of it leaves the test's folder."""
import os
import ssl
import subprocess


def _openssl(*argv):
    done = subprocess.run(["openssl", *argv], capture_output=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"openssl {argv[0]}: {done.stderr.decode(errors='replace')}")


class Certificate:
    def __init__(self, cert, key):
        self.cert = cert
        self.key = key

    def server_context(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.cert, self.key)
        return context


class Authority:
    def __init__(self, folder, name="Test CA"):
        self.folder = str(folder)
        os.makedirs(self.folder, exist_ok=True)
        self.key = os.path.join(self.folder, "ca.key")
        self.cert = os.path.join(self.folder, "ca.pem")
        self._issued = {}
        _openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                 "-keyout", self.key, "-out", self.cert, "-days", "2", "-subj", f"/CN={name}",
                 "-addext", "basicConstraints=critical,CA:TRUE",
                 "-addext", "keyUsage=critical,keyCertSign,cRLSign")

    def issue(self, domain, label=None, days=2):
        """A server certificate for `domain`. Negative days: already expired."""
        label = label or domain
        if label in self._issued:
            return self._issued[label]
        base = os.path.join(self.folder, label)
        _openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
                 base + ".key", "-out", base + ".csr", "-subj", f"/CN={domain}")
        with open(base + ".ext", "w", encoding="ascii") as ext:
            ext.write(f"subjectAltName=DNS:{domain}\nextendedKeyUsage=serverAuth\n")
        _openssl("x509", "-req", "-in", base + ".csr", "-CA", self.cert, "-CAkey", self.key,
                 "-CAcreateserial", "-out", base + ".crt", "-days", str(days), "-extfile",
                 base + ".ext")
        self._issued[label] = Certificate(base + ".crt", base + ".key")
        return self._issued[label]

    @staticmethod
    def self_signed(folder, domain):
        """A server certificate that vouches for itself."""
        base = os.path.join(str(folder), "self-signed")
        _openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                 "-keyout", base + ".key", "-out", base + ".crt", "-days", "2", "-subj",
                 f"/CN={domain}", "-addext", f"subjectAltName=DNS:{domain}", "-addext",
                 "basicConstraints=critical,CA:FALSE")
        return Certificate(base + ".crt", base + ".key")
