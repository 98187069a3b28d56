"""
A small server that is started by others: it listens where C{PORT} or C{SOCKET} in its environment says.

Its arguments say what else it does: C{fail} ends at once, C{mute} never listens, C{stubborn} does not mind SIGTERM, and
C{late} listens when the file that is named next is there.  Asked for C{/crash} it ends, and for C{/wait} it does not
answer.
"""

import os
import signal
import socket
import sys
import threading
import time


def serve(connection: socket.socket) -> None:
    """Answer requests."""
    try:
        answer(connection)
    except OSError:
        connection.close()


def answer(connection: socket.socket) -> None:
    """Answer requests without bodies, until the connection ends."""
    data = b""
    while True:
        while b"\r\n\r\n" not in data:
            more = connection.recv(65536)
            if not more:
                connection.close()
                return
            data += more
        head, _, data = data.partition(b"\r\n\r\n")
        path = head.split(b" ")[1]
        if path == b"/crash":
            sys.stderr.write("something went wrong\nvery wrong\n")
            sys.stderr.flush()
            os._exit(3)
        if path == b"/wait":
            print("waiting", flush=True)
            time.sleep(3600)
        body = f"{os.getpid()} {' '.join(sys.argv[1:])} {os.environ.get('EXTRA')} {os.getcwd()}".encode()
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))


def main() -> None:
    """Run."""
    arguments = sys.argv[1:]
    print("starting", flush=True)
    if "fail" in arguments:
        sys.exit("no such luck")
    if "stubborn" in arguments:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while "mute" in arguments:
        time.sleep(3600)
    if "late" in arguments:
        while not os.path.exists(arguments[arguments.index("late") + 1]):
            time.sleep(0.01)
    if "SOCKET" in os.environ:
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(os.environ["SOCKET"])
        listening.listen()
    else:
        listening = socket.create_server(("127.0.0.1", int(os.environ["PORT"])))
    while True:
        threading.Thread(target=serve, args=[listening.accept()[0]], daemon=True).start()


if __name__ == "__main__":
    main()
