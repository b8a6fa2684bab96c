# SPDX-License-Identifier: GPL-2.0
"""Servers that a guest finds on the network, and the network: services for host.Host.

Everything listens on the loopback only; a guest reaches it through QEMU's user
networking, under the address GATEWAY.
"""
import os
import selectors
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

GATEWAY = '10.0.2.2'
# A burst that does not fit is dropped, as the network may.
MAX_ANSWERS = 16


def free_port():
    """A TCP port of the loopback that nobody listens on."""
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


def later(seconds, action):
    """Undo something by itself: a guest without its swap cannot be relied on to ask."""
    def undo():
        try:
            action()
        except OSError:
            pass    # the guest, or what it was about, has gone
    timer = threading.Timer(float(seconds), undo)
    timer.daemon = True
    timer.start()


class Card:
    """The guest's network card. link down SECONDS: its cable is pulled for so long."""

    names = ('link',)

    def __init__(self, model):
        self.model = model

    def args(self):
        return ['-netdev', 'user,id=net0,restrict=off,ipv6=off',
                '-device', f'{self.model},netdev=net0,id=nic0']

    def request(self, words, monitor):
        if len(words) != 3 or words[1] != 'down':
            raise OSError('link: down SECONDS')
        monitor.command('set_link', name='net0', up=False)
        later(words[2], lambda: monitor.command('set_link', name='net0', up=True))

    def close(self):
        pass


class Server:
    """A program from Debian with a directory of its own, which outlives its death.

    NAME kill, freeze, replace SECONDS: it comes back by itself after that. Frozen, it
    is alive, connected, and silent; replaced, by one that knows of no connection.
    """

    tool = package = ''
    names = ()

    def __init__(self):
        self.path = shutil.which(self.tool, path=os.environ.get('PATH', '') + ':/usr/sbin')
        if not self.path:
            raise OSError(f'{self.tool} is not installed: apt-get install {self.package}')
        self.dir = tempfile.mkdtemp(prefix='vmtest-server-')
        self.port = free_port()
        self.process = None
        self.closed = False
        self.prepare()
        try:
            self.start()
        except BaseException:
            self.close()
            raise

    def prepare(self):
        """Make what the server serves."""

    def command(self):
        """The server's command line, in the foreground."""
        raise NotImplementedError

    def start(self):
        if self.closed or self.process and self.process.poll() is None:
            return
        log = os.path.join(self.dir, 'log')
        with open(log, 'ab') as f:
            self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL,
                                            stdout=f, stderr=f)
        end = time.monotonic() + 20
        while time.monotonic() < end:
            if self.process.poll() is not None:
                with open(log, encoding='utf-8', errors='replace') as f:
                    last = (f.read().strip().splitlines() or ['it said nothing'])[-1]
                raise OSError(f'{self.tool} ended with {self.process.returncode}: {last}')
            try:
                socket.create_connection(('127.0.0.1', self.port), 1).close()
                return
            except OSError:
                time.sleep(0.05)
        raise OSError(f'{self.tool} does not listen')

    def end(self, how):
        if self.process and self.process.poll() is None:
            self.process.send_signal(how)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def signal(self, how):
        if self.process and self.process.poll() is None:
            self.process.send_signal(how)

    def restart(self):
        self.end(signal.SIGKILL)
        self.start()

    def request(self, words, _):
        actions = {'kill': (lambda: self.end(signal.SIGKILL), self.start),
                   'freeze': (lambda: self.signal(signal.SIGSTOP),
                              lambda: self.signal(signal.SIGCONT)),
                   'replace': (lambda: self.signal(signal.SIGSTOP), self.restart)}
        if len(words) != 3 or words[1] not in actions:
            raise OSError(f"{words[0]}: {', '.join(actions)} SECONDS")
        act, undo = actions[words[1]]
        act()
        later(words[2], undo)

    def close(self):
        self.closed = True
        self.signal(signal.SIGCONT)
        self.end(signal.SIGKILL)
        shutil.rmtree(self.dir, ignore_errors=True)


class Nbd(Server):
    """A network block device: a sparse file."""

    tool, package, names = 'qemu-nbd', 'qemu-utils', ('nbd',)

    def __init__(self, size=1 << 30):
        self.size = size
        super().__init__()

    def prepare(self):
        with open(os.path.join(self.dir, 'image'), 'wb') as f:
            f.truncate(self.size)

    def command(self):
        return [self.path, '--persistent', '--shared=8', '--format=raw', '--cache=writeback',
                '--discard=unmap', '--bind=127.0.0.1', f'--port={self.port}',
                os.path.join(self.dir, 'image')]

    def append(self):
        return [f'TMS_NBD={GATEWAY}:{self.port}']


class Nfs(Server):
    """An NFSv4 server in user space, so that the host's kernel has no part in it."""

    tool, package, names = 'ganesha.nfsd', 'nfs-ganesha nfs-ganesha-vfs', ('nfs',)

    CONFIG = """
NFS_CORE_PARAM {{
	Protocols = 4; NFS_Port = {port}; Bind_addr = 127.0.0.1;
	Enable_NLM = false; Enable_RQUOTA = false; Enable_UDP = false;
}}
NFSV4 {{
	Graceless = true; Minor_Versions = 1, 2; Only_Numeric_Owners = true;
	RecoveryBackend = fs; RecoveryRoot = {dir}/recovery;
}}
EXPORT {{
	Export_Id = 1; Path = {dir}/export; Pseudo = /swap;
	Access_Type = RW; Squash = No_root_squash; SecType = sys;
	FSAL {{ Name = VFS; }}
}}
LOG {{ Default_Log_Level = EVENT; }}
"""

    def prepare(self):
        os.mkdir(os.path.join(self.dir, 'export'))
        os.mkdir(os.path.join(self.dir, 'recovery'))
        with open(os.path.join(self.dir, 'config'), 'w', encoding='utf-8') as f:
            f.write(self.CONFIG.format(port=self.port, dir=self.dir))

    def command(self):
        return [self.path, '-F', '-f', os.path.join(self.dir, 'config'), '-L', '/dev/stdout',
                '-p', os.path.join(self.dir, 'pid')]

    def append(self):
        return [f'TMS_NFS={GATEWAY}:{self.port}:/swap']


class Echo(threading.Thread):
    """TCP and UDP echo on one port. The first byte of a datagram is the number of answers."""

    names = ()

    def __init__(self):
        super().__init__(daemon=True)
        self.selector = selectors.DefaultSelector()
        self.tcp = socket.socket()
        self.tcp.bind(('127.0.0.1', 0))
        self.tcp.listen()
        self.port = self.tcp.getsockname()[1]
        self.udp = socket.socket(type=socket.SOCK_DGRAM)
        self.udp.bind(('127.0.0.1', self.port))
        self.wake, self.woken = socket.socketpair()
        self.selector.register(self.tcp, selectors.EVENT_READ, self.accept)
        self.selector.register(self.udp, selectors.EVENT_READ, self.datagram)
        self.selector.register(self.woken, selectors.EVENT_READ, None)
        self.start()

    def append(self):
        return [f'TMS_ECHO={GATEWAY}:{self.port}']

    def accept(self, listener):
        peer, _ = listener.accept()
        peer.setblocking(False)
        self.selector.register(peer, selectors.EVENT_READ, self.stream)

    def stream(self, peer):
        try:
            data = peer.recv(65536)
            if data:
                peer.send(data)
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self.selector.unregister(peer)
        peer.close()

    def datagram(self, sock):
        data, peer = sock.recvfrom(65536)
        for _ in range(min(data[0], MAX_ANSWERS) if data else 0):
            sock.sendto(data, peer)

    def run(self):
        while True:
            for key, _ in self.selector.select():
                if key.data is None:
                    return
                try:
                    key.data(key.fileobj)
                except OSError:
                    pass

    def close(self):
        self.wake.send(b'x')
        self.join(5)
        for key in list(self.selector.get_map().values()):
            key.fileobj.close()
        self.wake.close()
        self.selector.close()
