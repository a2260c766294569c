"""Shows flood at work: a local S3 server, flood-watch, a tree of files, what became of them."""

import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import boto3
from botocore.config import Config
from rich.console import Console
from rich.markup import escape
from rich.table import Table

PROGRAMS = Path(sys.executable).parent
KEY, SECRET = "demo-key", "demo-secret-of-nobody"
BUCKET = "holiday"

console = Console()


def main() -> int:
    """Run the demonstration; return the exit status."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that all is stopped and removed
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="flood-demo-")))
        forget_own_settings(home)
        port = free_port()
        step(f"A local S3 server on port {port}, with a bucket named {BUCKET}")
        (home / "store" / BUCKET).mkdir(parents=True)
        stack.enter_context(s3_server(home, port))
        write_credentials(home, port)

        step("flood-watch with two consumers")
        show("flood-watch --server-directory spool --consumers 2")
        stack.enter_context(flood_watch(home))

        step("A tree of files, some with odd names, put into the spool")
        make_photos(home / "photos")
        show(f"flood-put -r --wait photos s3://demo/{BUCKET}/2026")
        status = subprocess.run(
            [
                PROGRAMS / "flood-put",
                *("--server-directory", home / "spool", "--credentials", home / "credentials"),
                *("-r", "--wait", "photos", f"s3://demo/{BUCKET}/2026"),
            ],
            cwd=home,
            check=False,
        ).returncode

        step("What flood recorded (flood.db)")
        print_records(home / "flood.db")
        step("What flood logged of the first of them")
        for line in (home / "flood.log").read_text().splitlines():
            if " record=1 " in line:
                console.print(f"  {escape(line)}", highlight=False, soft_wrap=True)
        step("What the bucket holds")
        print_objects(port)
        step("Where the files lie now")
        for path in sorted((home / "spool").rglob("*")):
            if path.is_file() and ".flood" not in path.parts:
                console.print(f"  {escape(str(path.relative_to(home)))}", highlight=False)
    console.print("\nEverything was stopped, and removed again.")
    return status


def step(text: str) -> None:
    """Say what comes next."""
    console.print(f"\n[bold]{escape(text)}[/bold]")


def show(command: str) -> None:
    """Show a command as a person would type it."""
    console.print(f"  [cyan]$ {escape(command)}[/cyan]", highlight=False)


def forget_own_settings(home: Path) -> None:
    """Let nothing that this user has set up for flood, or for AWS, into the demonstration, nor a
    proxy, which the store on this machine is not to be reached by."""
    for name in list(os.environ):
        if name.startswith(("FLOOD_", "AWS_", "XDG_")) or name.lower().endswith("_proxy"):
            del os.environ[name]
    os.environ["HOME"] = str(home)


def free_port() -> int:
    """A port of the loopback interface that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(command: list[object], log: Path, home: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A program in the background, its output in a file; it is ended with the demonstration."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(word) for word in command], stdout=output, stderr=output, cwd=home
        )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()


@contextmanager
def s3_server(home: Path, port: int) -> Iterator[None]:
    """rclone's S3 server over a directory, which checks every signature."""
    rclone = shutil.which("rclone", path=str(PROGRAMS)) or "rclone"
    command: list[object] = [
        *(rclone, "serve", "s3", home / "store"),
        *("--addr", f"127.0.0.1:{port}", "--auth-key", f"{KEY},{SECRET}"),
    ]
    with running(command, home / "store.log", home) as process:
        wait_until(lambda: answers(port), process, home / "store.log")
        yield


@contextmanager
def flood_watch(home: Path) -> Iterator[None]:
    """flood-watch with consumers of its own, ready."""
    log = home / "flood.log"
    command: list[object] = [
        *(PROGRAMS / "flood-watch", "--server-directory", home / "spool", "--consumers", 2),
        *("--credentials", home / "credentials"),
    ]
    with running(command, log, home) as process:
        wait_until(lambda: " ready " in log.read_text(), process, log)
        yield


def wait_until(
    condition: Callable[[], bool], process: "subprocess.Popen[bytes]", log: Path
) -> None:
    """Wait for a program to be ready; show its output if it is not."""
    deadline = time.monotonic() + 30
    while not condition():
        if process.poll() is not None or time.monotonic() > deadline:
            sys.exit(f"{process.args!r} did not start:\n{log.read_text()}")
        time.sleep(0.05)


def answers(port: int) -> bool:
    """Whether somebody listens."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def write_credentials(home: Path, port: int) -> None:
    """A credentials file with one profile, for the local server."""
    path = home / "credentials"
    path.touch(mode=0o600)
    path.write_text(
        "[demo]\nprovider = s3\n"
        f"AWS_ACCESS_KEY_ID = {KEY}\nAWS_SECRET_ACCESS_KEY = {SECRET}\n"
        f"AWS_REGION = us-east-1\nAWS_ENDPOINT = http://127.0.0.1:{port}\n"
    )


def make_photos(directory: Path) -> None:
    """A few files of many sizes."""
    files = {
        "day 1/IMG_0001.jpg": 250_000,
        "day 1/IMG_0002.jpg": 310_000,
        "day 2/überraschung 🎂.jpg": 120_000,
        "day 2/100% sure.txt": 42,
        "notes.txt": 0,
    }
    for name, size in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(size))


def print_records(database: Path) -> None:
    """The table file_records, its main columns."""
    columns = ("id", "filepath", "current_state", "upload_outcome", "size")
    table = Table(*columns)
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    for row in connection.execute(f"SELECT {', '.join(columns)} FROM file_records ORDER BY id"):
        table.add_row(*(escape(str(value)) for value in row))
    connection.close()
    console.print(table)


def print_objects(port: int) -> None:
    """Every object of the bucket, as the server lists it."""
    client = boto3.client(
        "s3",
        aws_access_key_id=KEY,
        aws_secret_access_key=SECRET,
        region_name="us-east-1",
        endpoint_url=f"http://127.0.0.1:{port}",
        config=Config(s3={"addressing_style": "path"}),
    )
    table = Table("key", "size", "ETag")
    for entry in client.list_objects_v2(Bucket=BUCKET).get("Contents", []):
        table.add_row(escape(entry["Key"]), str(entry["Size"]), entry["ETag"].strip('"'))
    console.print(table)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
