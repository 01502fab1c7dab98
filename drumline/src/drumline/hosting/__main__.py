"""`python -m drumline.hosting`: what a deploy asks of a project that has no management command for it."""

import sys
from argparse import ArgumentParser

import django

from drumline.hosting import administrator, check, pings


def main() -> None:
    """Run one command; exit 1 with its reason."""
    parser = ArgumentParser(prog="python -m drumline.hosting", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    checked = commands.add_parser("check", help="find what would not run, and say which guarantees are missing")
    checked.add_argument("--serve", default="", metavar="QUEUES", help="comma-separated queues that workers serve")
    pinged = commands.add_parser("ping", help="have each worker, and each queue, run a test task")
    pinged.add_argument("workers", nargs="*", metavar="WORKER", help="Celery node name, such as high-1@app1")
    pinged.add_argument("--queue", default="", metavar="QUEUES", help="comma-separated queues to send a task to")
    pinged.add_argument(
        "--wait", type=float, default=30.0, metavar="SECONDS", help="fail after this time (default: 30)"
    )
    named = commands.add_parser(
        "admin", help="create the first administrator; the password is read from standard input"
    )
    named.add_argument("email")
    options = parser.parse_args()

    django.setup()
    if options.command == "check":
        problems = list(check.run(_words(options.serve)))
    elif options.command == "ping":
        problems = list(pings.run(options.workers, _words(options.queue), seconds=options.wait))
    else:
        problems = list(administrator.create(options.email, sys.stdin.readline().rstrip("\n")))
    if problems:
        sys.exit("\n".join(problems))


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


if __name__ == "__main__":
    main()
