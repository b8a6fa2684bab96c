# SPDX-License-Identifier: GPL-2.0
"""The host's side of a guest: QEMU's monitor, and what the guest asks of the host.

A guest in which a scenario runs has a second virtio port, vmtest.host. It writes
a line, "link down 15" say, and gets one back: "ok", or "error" and the reason.
"""
import json
import os
import shutil
import socket
import tempfile
import threading

PORT = 'vmtest.host'


class Monitor:
    """QEMU's machine protocol on a socket; one command at a time."""

    def __init__(self, path):
        self.lock = threading.Lock()
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(10)
        self.socket.connect(path)
        self.file = self.socket.makefile('rw', encoding='utf-8')
        self.file.readline()
        self.command('qmp_capabilities')

    def command(self, execute, **arguments):
        """The answer of a command; OSError if QEMU refuses it, or is gone."""
        with self.lock:
            self.file.write(json.dumps({'execute': execute, 'arguments': arguments}) + '\n')
            self.file.flush()
            for line in self.file:
                said = json.loads(line)
                if 'error' in said:
                    raise OSError(f"QEMU: {execute}: {said['error']['desc']}")
                if 'return' in said:
                    return said['return']
        raise OSError(f'QEMU: {execute}: no answer')

    def close(self):
        self.file.close()
        self.socket.close()


class Host:
    """Sockets for one guest, and a thread that does what the guest asks.

    Services are objects that have names (the first word of a request), a method
    request(words, monitor) that raises OSError, and optionally args(), more
    arguments for QEMU, and append(), more for the kernel. Their maker closes them.
    """

    def __init__(self, services=()):
        # Not in the run's own directory: the name of a socket has to be short.
        self.dir = tempfile.mkdtemp(prefix='vmtest-')
        self.services = list(services)
        self.monitor = None
        self.listener = None
        self.said = []

    def path(self, name):
        return os.path.join(self.dir, name)

    def args(self):
        more = ['-chardev', f"socket,id=qmp,path={self.path('qmp')},server=on,wait=off",
                '-mon', 'chardev=qmp,mode=control']
        if self.services:
            more += ['-chardev', f"socket,id=host,path={self.path('host')},server=on,wait=off",
                     '-device', f'virtserialport,chardev=host,name={PORT}']
        for service in self.services:
            more += getattr(service, 'args', list)()
        return more

    def append(self):
        return [word for s in self.services for word in getattr(s, 'append', list)()]

    def attach(self):
        """Connect to a QEMU that has been started; it may take a moment to listen."""
        try:
            self.monitor = Monitor(self.path('qmp'))
            if self.services:
                self.listener = socket.socket(socket.AF_UNIX)
                self.listener.connect(self.path('host'))
        except OSError:
            self.detach()
            return False
        if self.services:
            threading.Thread(target=self.serve, args=(self.listener,), daemon=True).start()
        return True

    def serve(self, listener):
        try:
            with listener.makefile('rw', encoding='utf-8', errors='replace') as lines:
                for line in lines:
                    answer = self.answer(line.split())
                    self.said.append(f'{line.strip()}: {answer}')
                    lines.write(answer + '\n')
                    lines.flush()
        except (OSError, ValueError):
            pass    # the guest has gone

    def answer(self, words):
        service = next((s for s in self.services if words and words[0] in s.names), None)
        if not service:
            return f"error nobody serves '{' '.join(words)}'"
        try:
            service.request(words, self.monitor)
        except OSError as e:
            return f'error {e}'
        return 'ok'

    def report_tasks(self):
        """Have a guest that does not answer print its tasks: it panics of an NMI."""
        try:
            self.monitor.command('inject-nmi')
            return True
        except (OSError, AttributeError, ValueError):
            return False

    def detach(self):
        for end in (self.monitor, self.listener):
            if end:
                end.close()
        self.monitor = self.listener = None

    def close(self):
        self.detach()
        shutil.rmtree(self.dir, ignore_errors=True)
