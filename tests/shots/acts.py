"""What the documentation shows, act by act, each on a stage of its own."""

from collections.abc import Callable

from tests.shots.stage import Stage

Act = Callable[[Stage], None]

#: Topics of flood-check that depend on the machine.
_MACHINE = r"^spool\n(?:.*\n)*?(?=work\n)"
#: What processes log of their settings as they start.
_SETTINGS = r"^.* INFO flood\.startup .*\n"
#: Where a dumb terminal had a progress bar.
_BARS = r"^\n"


def first_day(stage: Stage) -> None:
    """A new installation, its first files, its first failures."""
    stage.bucket("holiday")
    stage.shot("init", "flood-init ~/flood")
    stage.write_keys()
    _photos(stage)
    stage.shot("check-probe", "flood-check --probe s3://demo/holiday", without=_MACHINE)
    with stage.running("flood-watch", until="caught up") as watch:
        stage.wait_for(lambda: watch.output().count(" kind=thread") == 2, "both consumers")
        stage.write("film.mp4", size=6_000_000)
        stage.run("flood-put --wait film.mp4 s3://demo/holiday/")
        stage.wait_for(lambda: " completed record=" in watch.output(), "what the log has of it")
        stage.keep("watch", "flood-watch", watch.output(), hidden=_SETTINGS)
        stage.shot("put-wait", "flood-put -r --wait photos s3://demo/holiday/2026", hidden=_BARS)
        stage.wait_for(lambda: stage.ask("SELECT last_swept_at FROM spool") != [(None,)], "a sweep")
        stage.shot("watch-second", "flood-watch; echo $?", hidden=_SETTINGS)
        stage.shot("status-quiet", "flood-status")
        stage.shot("check-ok", "flood-status --check; echo $?")
        stage.write("report.pdf", "a.txt", "b.txt")
        stage.shot(
            "put-nowhere", "flood-put --wait report.pdf s3://demo/nowhere/; echo $?", hidden=_BARS
        )
        stage.run("flood-put --wait a.txt b.txt s3://demo/nowhere/")
        stage.shot("status-failed", "flood-status")
        stage.shot("check-failed", "flood-status --check --max-age 30m,2h --max-failed 0; echo $?")
        stage.shot("prometheus", "flood-status --format prometheus | grep ^flood_failed")
        stage.shot("json", "flood-status --json | head -n 10")
        stage.bucket("nowhere")
        stage.run("flood-put --wait report.pdf s3://demo/nowhere/")
        stage.shot("retry-dry-run", "flood-retry --all --dry-run")
        stage.shot("retry-error", "flood-retry --error NoSuchBucket", hidden=_BARS)
        [old, _] = stage.records("report.pdf")
        stage.shot("retry-refused", f"flood-retry {old}; echo $?")
        stage.shot("story", "flood-status s3://demo/nowhere/report.pdf")
        stage.wait_for(lambda: stage.count("processing") == 0, "all uploads")
        stage.shot("status-superseded", "flood-status")
    stage.run("flood-put --quiet report.pdf s3://demo/later/")
    stage.shot("put-refused", "flood-put report.pdf s3://demo/later/; echo $?", hidden=_BARS)
    stage.shot("check", "flood-check", without=_MACHINE)
    stage.shot("prune", "flood-prune --keep-completed 0 --dry-run")
    stage.shot("fsck-clean", "flood-fsck; echo $?")


def by_hand(stage: Stage) -> None:
    """flood without daemons, as cron or a script runs it."""
    stage.bucket("holiday")
    stage.shot("consumer-unset", "huey_consumer flood.tasks.huey; echo $?")
    stage.run("flood-init flood")
    stage.write_keys()
    stage.environ["AWS_SHARED_CREDENTIALS_FILE"] = str(stage.flood / "credentials")
    stage.shot(
        "consumer-lost",
        "cd ~; FLOOD_SERVER_DIRECTORY=~/flood/spool huey_consumer flood.tasks.huey; echo $?",
        hidden=_SETTINGS,
    )
    del stage.environ["AWS_SHARED_CREDENTIALS_FILE"]
    _photos(stage)
    stage.write("report.pdf", "report.txt")
    stage.shot("once", "flood-watch --once", hidden=_BARS)
    stage.shot(
        "put-once-drain",
        "flood-put -r photos s3://demo/holiday/2026 && flood-watch --once && flood-drain",
        hidden=_BARS,
    )
    stage.run("ln -s notes.txt photos/link")
    stage.shot("put-dry-run", "flood-put --dry-run -r photos s3://demo/holiday/2026", hidden=_BARS)
    stage.shot("put-delivered", "flood-put report.pdf s3://demo/holiday/later/", hidden=_BARS)
    stage.run("flood-watch --once && flood-drain")
    stage.run("flood-put --quiet report.pdf report.txt s3://demo/nowhere/2026/")
    stage.run("flood-watch --once")
    # As cron runs it: nobody watches.
    stage.shot("drain-failed", "flood-drain; echo $?", terminal=False)
    stage.proxy.down()
    stage.run("flood-put --quiet report.txt s3://demo/holiday/new/ && flood-watch --once")
    stage.shot("drain-later", "flood-drain", hidden=_BARS)
    stage.shot("status-waiting", "flood-status")
    stage.environ |= {"FLOOD_NOTIFY_COMMAND": "true", "FLOOD_NOTIFY_INTERVAL": "1s"}
    stage.shot("notify-test", "flood-notify --test")
    stage.shot("notify", "flood-notify")
    stage.proxy.up()
    stage.shot("retry-now", "flood-retry --now --profile demo", hidden=_BARS)
    stage.shot("drain", "flood-drain --max-time 10m", hidden=_BARS)


def trouble(stage: Stage) -> None:
    """A worker that was killed, a full disk, a lost database."""
    stage.bucket("holiday")
    stage.run("flood-init flood")
    stage.write_keys()
    _photos(stage)
    stage.write("film.mp4")
    stage.run(
        "flood-put -r --quiet photos s3://demo/holiday/2026 && flood-watch --once && flood-drain"
    )
    stage.run("flood-put --quiet film.mp4 s3://demo/holiday/ && flood-watch --once")
    stage.hang()
    with stage.running("flood-drain") as drain:
        stage.wait_for(lambda: stage.proxy.count("PUT") > len(_PHOTOS), "the upload")
        drain.kill()
    stage.proxy.heal()
    stage.shot("fsck-killed", "flood-fsck; echo $?")
    stage.shot("put-full", "flood-put --min-free 1000TiB film.mp4 s3://demo/holiday/; echo $?")
    stage.run("mv spool elsewhere")
    stage.shot("status-away", "flood-status; echo $?")
    stage.run("mv elsewhere spool && rm flood.db*")
    stage.shot("status-lost", "flood-status; echo $?")
    stage.shot("fsck-lost", "flood-fsck; echo $?")
    stage.shot("fsck-repair", "flood-fsck --repair; echo $?")


ACTS: dict[str, Act] = {act.__name__: act for act in (first_day, by_hand, trouble)}

_PHOTOS = {
    "day 1/IMG_0001.jpg": 250_000,
    "day 1/IMG_0002.jpg": 310_000,
    "day 2/cake 🎂.jpg": 120_000,
    "notes.txt": 42,
}


def _photos(stage: Stage) -> None:
    for name, size in _PHOTOS.items():
        stage.write(f"photos/{name}", size=size)
