"""A real nginx in front of the gateway, with deploy/nginx.conf: only addresses, time-outs and the
folders that a test must not share are changed."""
import os
import re
import shutil

from .support import Child, can_connect, free_port, ready

MAIN = """
worker_processes 1;
daemon off;
{user}
pid {folder}/nginx.pid;
error_log {folder}/error.log info;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {site}
}}
"""


def join(text, several):
    """deploy/nginx.conf with the upstream of deploy/two-instances in place of its own."""
    block = re.compile(r"(?ms)^upstream rostergate \{.*?^\}\n")
    assert block.search(text), "deploy/nginx.conf has no upstream"
    found = block.search(several)
    assert found, "deploy/two-instances/upstream.conf has no upstream"
    return block.sub(lambda _: found[0], text)


def adapt(text, listen, upstreams, read_timeout):
    """deploy/nginx.conf with the test's addresses. Raises if what it changes is not there, so that the
    file cannot drift away from its test."""
    line = re.compile(r"(?m)^(\s*)server\s+(?:127\.0\.0\.1:\d+|unix:[^\s;]+)([^;{]*);")
    n = len(line.findall(text))
    assert n == len(upstreams), f"{n} upstream server lines for {len(upstreams)} upstreams"
    servers = iter(upstreams)
    text = line.sub(lambda found: f"{found[1]}server {next(servers)}{found[2]};", text)
    text, n = re.subn(r"(?m)^(\s*)listen\s+[^;]+;", "", text)
    assert n >= 1, "deploy/nginx.conf has no listen line"
    text = re.sub(r"(?m)^\s*(ssl_\w+|http2)\s+[^;]+;", "", text)
    text = re.sub(r"(?m)^(\s*)server_name\s+[^;]+;", rf"\g<1>server_name localhost;\n    {listen}",
                  text)
    text, n = re.subn(r"proxy_read_timeout\s+[^;]+;", f"proxy_read_timeout {read_timeout};", text)
    assert n >= 1, "deploy/nginx.conf sets no proxy_read_timeout"
    return text


class Nginx:
    def __init__(self, folder, conf_path, upstreams, read_timeout="75s"):
        """One upstream takes the place of that in the file, several that of deploy/two-instances."""
        if shutil.which("nginx") is None:
            raise RuntimeError("nginx is not installed; run tests/setup")
        self.folder = str(folder)
        os.makedirs(self.folder, exist_ok=True)
        self.port = free_port()
        with open(conf_path, encoding="utf-8") as conf:
            text = conf.read()
        if len(upstreams) > 1:
            several = os.path.join(os.path.dirname(conf_path), "two-instances", "upstream.conf")
            with open(several, encoding="utf-8") as conf:
                text = join(text, conf.read())
        site = adapt(text, f"listen 127.0.0.1:{self.port};", upstreams, read_timeout)
        whole = site if re.search(r"(?m)^\s*http\s*\{", site) else MAIN.format(
            folder=self.folder, site=site, user="user root;" if os.geteuid() == 0 else "")
        self.config_path = os.path.join(self.folder, "nginx.conf")
        with open(self.config_path, "w", encoding="utf-8") as conf:
            conf.write(whole)
        self.child = Child(["nginx", "-p", self.folder, "-c", self.config_path, "-e",
                            os.path.join(self.folder, "start.log")],
                           os.path.join(self.folder, "nginx.log"))
        ready(self.child, lambda: can_connect("127.0.0.1", self.port), 20, "nginx listens")

    @property
    def address(self):
        return ("127.0.0.1", self.port)

    def error_log(self):
        with open(os.path.join(self.folder, "error.log"), encoding="utf-8") as log:
            return log.read()

    def stop(self):
        if self.child is not None:
            self.child.signal(15)
            self.child.wait(20)
            self.child = None
