"""nginx from Debian, with a configuration of the test's, on a port of its own."""

import os
import shutil
import socket
import subprocess

from .wait import until

TEMPLATE = """
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log {directory}/error.log info;
events {{ worker_connections {connections}; }}
http {{
  access_log {directory}/access.log;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  {http}
  server {{
    listen 127.0.0.1:{port}{tls};
    {server}
  }}
}}
"""

# What the manual tells people to write.
GOOD = """
    location / {{
      proxy_pass http://127.0.0.1:{upstream};
      proxy_http_version 1.1;
      proxy_set_header Host $http_host;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection "upgrade";
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_read_timeout 3600s;
      proxy_buffering off;
    }}
"""


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class Nginx:
    """`with Nginx(tmp_path, server=...)`: its port is `port`."""

    def __init__(self, directory, server, http="", connections=512, certificate=None):
        self.directory = directory
        self.port = free_port()
        tls = " ssl" if certificate else ""
        if certificate:
            server = f"ssl_certificate {certificate[0]}; ssl_certificate_key {certificate[1]};\n" + server
        self.config = TEMPLATE.format(
            directory=directory, connections=connections, http=http, port=self.port, tls=tls, server=server
        )
        self.process = None

    def __enter__(self):
        self.directory.mkdir(parents=True, exist_ok=True)
        path = self.directory / "nginx.conf"
        path.write_text(self.config)
        binary = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")
        with open(self.directory / "stderr", "wb") as log:
            self.process = subprocess.Popen([binary, "-p", str(self.directory), "-c", str(path)], stdin=subprocess.DEVNULL, stdout=log, stderr=log)

        def listens():
            assert self.process.poll() is None, (self.directory / "stderr").read_text()
            with socket.socket() as sock:
                return sock.connect_ex(("127.0.0.1", self.port)) == 0

        until(listens, "nginx")
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(10)
