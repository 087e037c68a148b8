#!/usr/bin/env python3
"""Asks AWS what only AWS can answer, and says where it answers otherwise than the code believes.

    tools/prove_aws/prove.py [--only NAME,…] [--minutes N] [--fixtures DIR]   ask, in the account and region of the credentials
    tools/prove_aws/prove.py --local [--only NAME,…]                          ask the local AWS, which it starts and ends
    tools/prove_aws/prove.py --clean                                          remove what earlier runs have left
    tools/prove_aws/prove.py --list                                           the questions, as the table of docs/TESTING.md
    tools/prove_aws/prove.py --write                                          write that table
    tools/prove_aws/prove.py --policy                                         the permissions that it needs, as a policy

It makes what it needs, all of it named `ecs-updater-prove-RUN-…` and tagged `ecs-updater-prove`, and removes it at the end: after a
failure and after Ctrl-C too. Each answer is printed beside what the code believes and where that stands, and kept as a fixture
(tests/fixtures/aws, or --fixtures) without account ids and secrets.

Ends with 0 if everything that was answered is as believed, 1 if an answer is another one, 3 if something could not be removed, and
130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1] / "local_aws"))

import ask_access  # noqa: F401  (they register their questions)
import ask_api  # noqa: F401
import ask_deployments  # noqa: F401
import ask_services  # noqa: F401
import ask_tables  # noqa: F401
import ask_watch  # noqa: F401
import boto3
import fixtures
import leftovers
import permissions
from account import PREFIX, UNKNOWN, Account, Stopped, code, denied
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError, NoRegionError
from question import QUESTIONS, ROOT, Answer, NotHere, Question, Verdict, other

FIXTURES = ROOT / "tests" / "fixtures" / "aws"
PAGE = ROOT / "docs" / "TESTING.md"
MARKS = ("<!-- begin questions -->", "<!-- end questions -->")
WORKERS = 16


@dataclass
class Report:
    """What a run has brought."""

    answers: dict[str, Answer] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)
    stopped: bool = False

    def named(self, verdict: Verdict) -> list[str]:
        """The questions that were answered like this."""
        return [name for name, answer in self.answers.items() if answer.verdict is verdict]

    @property
    def exit_code(self) -> int:
        """What the program ends with."""
        if self.stopped:
            return 130
        if self.left:
            return 3
        return 1 if self.named(Verdict.OTHER) else 0


def ask(question: Question, account: Account) -> Answer:
    """Asks one question. Whatever else AWS does than the question reckons with is another answer too."""
    try:
        return question.ask(account)
    except NotHere as reason:
        return Answer(Verdict.NOT_HERE, str(reason), reason.facts)
    except ClientError as error:
        if code(error) in UNKNOWN or (account.is_local and code(error) == "InvalidClientTokenId"):
            return Answer(Verdict.NOT_HERE, f"{error.operation_name} is not known here ({error})")
        # Nobody believes anything about the permissions of who asks: where roles are asked about, the question knows refusals itself.
        if denied(error):
            return Answer(Verdict.NOT_HERE, f"who asks this may not: {error}")
        return other(f"the question broke on an answer that nobody expected: {error}")
    except EndpointConnectionError as error:
        return Answer(Verdict.NOT_HERE, f"the service cannot be reached here: {error}")
    except Exception as error:  # noqa: BLE001  (one question that breaks must not end the others, or leave something behind)
        return other(f"the question broke: {type(error).__name__}: {error}")


def run(
    account: Account, questions: Sequence[Question], say: Callable[[str], None], *, folder: Path | None = None, seconds: float = 600
) -> Report:
    """Asks the questions side by side, says each answer as it comes, and removes what was made, however this ends."""
    report = Report()
    pool = ThreadPoolExecutor(max_workers=WORKERS, thread_name_prefix="question")
    begun: dict[Future[Answer], Question] = {}
    try:
        with contextlib.suppress(KeyboardInterrupt):
            report.stopped = True
            # Those that wait longest first: the others fit beside them.
            for question in sorted(questions, key=lambda each: -each.minutes):
                begun[pool.submit(ask, question, account)] = question
            collect(begun, account, report, say, folder)
            report.stopped = False
    finally:
        with undisturbed(say):
            account.stopping.set()
            pool.shutdown(wait=True, cancel_futures=True)
            report.left = leftovers.remove(account, account.run, say, seconds=seconds)
    return report


def collect(
    begun: dict[Future[Answer], Question], account: Account, report: Report, say: Callable[[str], None], folder: Path | None
) -> None:
    """Takes the answers as they come."""
    pending = set(begun)
    while pending:
        # Not without end: Ctrl-C is heard between two looks.
        done, pending = wait(pending, timeout=0.5, return_when=FIRST_COMPLETED)
        for future in done:
            question = begun[future]
            try:
                answer = future.result()
            except Stopped:
                answer = Answer(Verdict.NOT_HERE, "the hour was over before there was an answer (MINUTES= gives it more)")
            report.answers[question.name] = answer
            say(told(question, answer, account))
            if folder:
                fixtures.write(folder, question, answer, account)


@contextlib.contextmanager
def undisturbed(say: Callable[[str], None]) -> Iterator[None]:
    """Nobody stops the removing: Ctrl-C only says so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def hear(*_: Any) -> None:
        say("it is removing what was made; should you end it by force, `make prove-aws CLEAN=1` removes what is left")

    before = {number: signal.signal(number, hear) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def told(question: Question, answer: Answer, account: Account) -> str:
    """An answer for people, beside what the code believes."""
    who = "the local AWS" if account.is_local else "AWS"
    lines = [
        f"{answer.verdict.value.upper():20} {question.name}: {question.asked}",
        wrapped("the code believes: ", f"{question.believes} ({', '.join(files(question))})"),
        wrapped(f"{who}: ", fixtures.redacted(answer.text, account)),
    ]
    return "\n".join(lines)


def files(question: Question) -> list[str]:
    """Where it is believed, each file once."""
    return list(dict.fromkeys(place.file for place in question.places))


def wrapped(label: str, text: str) -> str:
    """A paragraph, indented."""
    return textwrap.fill(label + text, 140, initial_indent=" " * 21, subsequent_indent=" " * 23, break_long_words=False)


def summary(report: Report, questions: Sequence[Question], account: Account) -> str:
    """How it ended."""
    lines = [", ".join(f"{len(report.named(verdict))} {verdict.value}" for verdict in Verdict)]
    for name in report.named(Verdict.OTHER):
        answer = report.answers[name]
        what = "the local AWS is kinder" if account.is_local and answer.kinder else "another answer"
        lines.append(f"{what}: {name}: {fixtures.redacted(answer.text, account)}")
    if missing := [question.name for question in questions if question.name not in report.answers]:
        lines.append(f"not answered, since it was stopped: {', '.join(missing)}")
    lines += [f"COULD NOT BE REMOVED: {what}" for what in report.left]
    if report.left:
        lines.append("`make prove-aws CLEAN=1` tries it again")
    else:
        lines.append("what was made is removed")
    return "\n".join(lines)


# ---- the table -------------------------------------------------------------------------------------------------------


def table(questions: Sequence[Question]) -> str:
    """The questions, as docs/TESTING.md has them."""
    head = ("question", "what is asked, and why", "what the code believes, and where", "how it is asked", "minutes", "cents")
    rows = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for each in questions:
        where = ", ".join(f"`{file}`" for file in files(each))
        asked = f"{each.asked} {each.matters}"
        rows.append(f"| `{each.name}` | {asked} | {each.believes} ({where}) | {each.how} | {each.minutes:g} | {each.cents:g} |")
    cents, longest = sum(question.cents for question in questions), max(question.minutes for question in questions)
    rows += ["", f"{len(questions)} questions, at the most {cents:g} cents in all; the longest takes {longest:g} minutes."]
    return "\n".join(rows)


def written(page: str, questions: Sequence[Question]) -> str:
    """The page, with the table between its marks."""
    begin, rest = page.split(MARKS[0])
    _, end = rest.split(MARKS[1])
    return f"{begin}{MARKS[0]}\n{table(questions)}\n{MARKS[1]}{end}"


# ---- the command -----------------------------------------------------------------------------------------------------


def chosen(only: str) -> list[Question]:
    """The questions of these names; all, if there are none. Exits where there is no such question."""
    names = [name for name in only.replace(",", " ").split() if name]
    if unknown := [name for name in names if name not in QUESTIONS]:
        raise SystemExit(f"there is no question {', '.join(unknown)}; there are {', '.join(QUESTIONS)}")
    return [QUESTIONS[name] for name in names or QUESTIONS]


def say(text: str) -> None:
    """Says it at once: the next may take a while."""
    print(text, flush=True)


@contextlib.contextmanager
def local_account() -> Iterator[Account]:
    """The local AWS, asked by an administrator: its root user would be refused nothing."""
    from local_aws import HUB, REGION, LocalAws, forget_aws_settings, root_of

    forget_aws_settings()
    with LocalAws() as aws:
        yield administrator(aws.client("iam", root_of(HUB)), aws.endpoint, REGION)


def administrator(iam: Any, endpoint: str, region: str) -> Account:
    """A user of a local AWS who may do everything, as an account to ask."""
    anything = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
    iam.create_user(UserName="prover")
    iam.put_user_policy(UserName="prover", PolicyName="anything", PolicyDocument=json.dumps(anything))
    key = iam.create_access_key(UserName="prover")["AccessKey"]
    session = boto3.session.Session(key["AccessKeyId"], key["SecretAccessKey"], region_name=region)
    return Account(session, region, endpoint=endpoint, is_local=True, minutes=5)


def aws_account(minutes: float) -> Account:
    """The account of the credentials."""
    # The variable that all other tools read, which boto3 does not.
    session = boto3.session.Session(region_name=os.environ.get("AWS_REGION"))
    if not session.region_name:
        raise SystemExit("no region: set AWS_REGION, or a profile with one")
    try:
        return Account(session, session.region_name, minutes=minutes)
    except (NoCredentialsError, NoRegionError) as error:
        raise SystemExit(f"{error}: nobody can be asked") from error


def main(arguments: Sequence[str]) -> int:
    """Asks, cleans or lists."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group()
    for name, does in (("local", "ask the local AWS"), ("clean", "remove what earlier runs have left"), ("list", "print the questions"),
                       ("write", "write them into docs/TESTING.md"), ("policy", "print the permissions it needs")):
        what.add_argument(f"--{name}", action="store_true", help=does)
    parser.add_argument("--only", default="", help="names of questions, with commas between them")
    parser.add_argument("--minutes", type=float, default=60, help="how long it asks, before it removes (60)")
    parser.add_argument("--fixtures", type=Path, help="where the answers go; default for AWS: tests/fixtures/aws, for the local AWS: nowhere")
    given = parser.parse_args(arguments)
    questions = chosen(given.only)
    if given.list or given.write:
        if given.write:
            PAGE.write_text(written(PAGE.read_text(), list(QUESTIONS.values())))
        else:
            say(table(questions))
        return 0
    if given.policy:
        say(json.dumps(permissions.policy(), indent=2))
        return 0
    # SIGTERM as Ctrl-C: what was made is removed first.
    # Somebody who starts this in the background of a script hands on that SIGINT is ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    with local_account() if given.local else contextlib.nullcontext(None) as local:
        account = local or aws_account(given.minutes)
        if given.clean:
            left = leftovers.remove(account, None, say)
            say("\n".join([*(f"COULD NOT BE REMOVED: {each}" for each in left), "" if left else "nothing of earlier runs is left"]).strip())
            return 3 if left else 0
        cents = sum(question.cents for question in questions)
        say(f"run {account.run}: {len(questions)} questions, everything named {PREFIX}-{account.run}-…" + (
            "" if account.is_local else f", in region {account.region}; at the most {cents:g} cents and {given.minutes:g} minutes"))
        begun = time.monotonic()
        report = run(account, questions, say, folder=given.fixtures or (None if account.is_local else FIXTURES))
        say(f"\n{summary(report, questions, account)}, after {time.monotonic() - begun:.0f} s")
        return report.exit_code


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:  # before anything was asked, or after all of it
        sys.exit(130)
