"""`make prove-aws`: whatever happens in a run, what it made is removed, and what it says is true."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tools" / folder) for folder in ("prove_aws", "local_aws")]

import fixtures  # noqa: E402  (found by the line above)
import leftovers  # noqa: E402
import permissions  # noqa: E402
import prove  # noqa: E402
import supplies  # noqa: E402
from account import PREFIX, TAG, Account  # noqa: E402
from local_aws import HUB, REGION, LocalAws, forget_aws_settings, root_of  # noqa: E402
from question import QUESTIONS, Answer, NotHere, Place, Question, Verdict, believed, other  # noqa: E402

ALL = list(QUESTIONS.values())


@pytest.fixture(scope="session")
def aws() -> Iterator[LocalAws]:
    """A local AWS for all tests, with an administrator."""
    forget_aws_settings()
    with LocalAws() as running:
        yield running


@pytest.fixture(scope="session")
def asker(aws: LocalAws) -> boto3.session.Session:
    """The administrator."""
    return prove.administrator(aws.client("iam", root_of(HUB)), aws.endpoint, REGION).session


@pytest.fixture
def account(aws: LocalAws, asker: boto3.session.Session) -> Account:
    """The account, for a run of its own."""
    return Account(asker, REGION, endpoint=aws.endpoint, is_local=True, minutes=2)


def things(aws: LocalAws) -> set[str]:
    """Everything that is there, as the services list it: asked of them here, and not by what removes it."""

    def every(service: str, operation: str, member: str, **arguments: Any) -> list[Any]:
        pages = aws.client(service, root_of(HUB)).get_paginator(operation).paginate(**arguments)
        return [each for page in pages for each in page.get(member, [])]

    events = aws.client("events", root_of(HUB))
    buses = [bus["Name"] for bus in events.list_event_buses()["EventBuses"]]
    clusters = every("ecs", "list_clusters", "clusterArns")
    found = [
        *clusters,
        *(arn for cluster in clusters for arn in every("ecs", "list_services", "serviceArns", cluster=cluster)),
        *(arn for status in ("ACTIVE", "INACTIVE") for arn in every("ecs", "list_task_definitions", "taskDefinitionArns", status=status)),
        *(f"bus {name}" for name in buses),
        *(rule["Arn"] for bus in buses for rule in events.list_rules(EventBusName=bus)["Rules"]),
        *every("sqs", "list_queues", "QueueUrls"),
        *(f"function {each['FunctionName']}" for each in every("lambda", "list_functions", "Functions")),
        *(f"API {each['id']}" for each in every("apigateway", "get_rest_apis", "items")),
        *(each["stateMachineArn"] for each in every("stepfunctions", "list_state_machines", "stateMachines")),
        *(f"table {name}" for name in every("dynamodb", "list_tables", "TableNames")),
        *(f"log group {each['logGroupName']}" for each in every("logs", "describe_log_groups", "logGroups")),
        *(each["Arn"] for each in every("iam", "list_roles", "Roles")),
        *(each["Arn"] for each in every("iam", "list_users", "Users")),
        *(each["Arn"] for each in every("iam", "list_policies", "Policies", Scope="Local")),
    ]
    return set(map(str, found))


def made_up(name: str, ask: Callable[[Account], Answer]) -> Question:
    """A question of a test."""
    return Question(name, "Is it?", "It matters.", "it is", (Place("README.md", "ecs-updater"),), "By asking.", 1, 0, ask)


def heard(account: Account, questions: list[Question], **options: Any) -> tuple[prove.Report, str]:
    """A run's report, and all that it said."""
    lines: list[str] = []
    report = prove.run(account, questions, lines.append, **options)
    return report, "\n".join([*lines, prove.summary(report, questions, account)])


# ---- the whole, on the local AWS -------------------------------------------------------------------------------------


def test_a_run_on_the_local_aws_comes_to_its_end_and_leaves_nothing(aws: LocalAws, account: Account, tmp_path: Path) -> None:
    # Somebody else's, whose name is like ours: it has no tag.
    aws.client("sqs", root_of(HUB)).create_queue(QueueName=f"{PREFIX}-{account.run}-of-somebody-else")
    before = things(aws)
    report, text = heard(account, ALL, folder=tmp_path)
    assert things(aws) ^ before == set(), text
    assert set(report.answers) == set(QUESTIONS)
    # Where the local AWS is kinder than AWS, it is to be mended: tools/local_aws.
    assert report.named(Verdict.OTHER) == [], text
    assert report.exit_code == 0, text
    assert "kinder" not in text
    # What is answered here at all: if it gets less, something has broken that nobody asks about any more.
    assert len(report.named(Verdict.AS_BELIEVED)) >= 17, text

    called = {permissions.action_of(call) for call in account.calls}
    assert called <= set(permissions.actions()), called - set(permissions.actions())

    assert {file.stem for file in tmp_path.iterdir()} == set(QUESTIONS)
    for file in tmp_path.iterdir():
        kept = file.read_text()
        assert not re.search(rf"{HUB}|{account.run}|{account.session.get_credentials().secret_key}|prover|AKIA|ASIA", kept), kept
        assert {"question", "asked", "believes", "verdict", "answer", "facts", "by"} == set(json.loads(kept))


def test_the_command_asks_some_and_ends_with_0() -> None:
    command = [sys.executable, str(ROOT / "tools/prove_aws/prove.py"), "--local", "--only", "root-security,presigned-expiry"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended
    assert "2 as believed, 0 other, 0 not to be had here" in ended.stdout
    assert "what was made is removed" in ended.stdout


def test_the_command_is_stopped_by_ctrl_c_and_ends_with_130() -> None:
    command = [sys.executable, "-u", str(ROOT / "tools/prove_aws/prove.py"), "--local"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as asking:
        assert asking.stdout
        assert asking.stdout.readline().startswith("run ")
        asking.stdout.readline()  # the first answer
        asking.send_signal(signal.SIGINT)
        said, _ = asking.communicate(timeout=60)
    assert asking.returncode == 130, said
    assert "not answered, since it was stopped: " in said
    assert "what was made is removed" in said


def test_the_command_cleans_the_account_of_its_environment(aws: LocalAws, account: Account) -> None:
    url, _ = supplies.queue(account, "left")
    held = account.session.get_credentials()
    environment = {
        "PATH": os.environ["PATH"], "AWS_ENDPOINT_URL": aws.endpoint, "AWS_REGION": REGION, "NO_PROXY": "127.0.0.1",
        "AWS_ACCESS_KEY_ID": held.access_key, "AWS_SECRET_ACCESS_KEY": held.secret_key, "AWS_CONFIG_FILE": os.devnull,
    }
    command = [sys.executable, str(ROOT / "tools/prove_aws/prove.py"), "--clean"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)
    assert ended.returncode == 0, ended
    assert ended.stdout.splitlines() == [f"removing queue {account.name('left')}", "nothing of earlier runs is left"]
    assert url not in things(aws)
    del environment["AWS_REGION"]
    nowhere = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert (nowhere.returncode, nowhere.stderr) == (1, "no region: set AWS_REGION, or a profile with one\n")


def test_there_is_no_such_question() -> None:
    with pytest.raises(SystemExit, match="there is no question nonsense; there are create-action, "):
        prove.main(["--only", "nonsense"])


# ---- whatever happens ------------------------------------------------------------------------------------------------


def test_a_question_that_breaks_is_another_answer_and_what_it_made_is_removed(aws: LocalAws, account: Account) -> None:
    before = things(aws)

    def breaks(account: Account) -> Answer:
        supplies.queue(account, "broken")
        raise RuntimeError("in the middle")

    def refused(account: Account) -> Answer:
        supplies.service(account, "refused")
        account.client("ecs").update_service(cluster=supplies.cluster(account), service="there-is-none")
        return believed("never")

    report, text = heard(account, [made_up("breaks", breaks), made_up("refused", refused), made_up("fine", lambda _: believed("yes"))])
    assert report.exit_code == 1
    assert report.named(Verdict.OTHER) == ["breaks", "refused"]
    assert "another answer: breaks: the question broke: RuntimeError: in the middle" in text
    assert "ServiceNotFoundException" in report.answers["refused"].text
    assert report.answers["fine"].verdict is Verdict.AS_BELIEVED
    assert things(aws) == before, text


@pytest.mark.parametrize(("verdict", "code"), [(Verdict.AS_BELIEVED, 0), (Verdict.NOT_HERE, 0), (Verdict.OTHER, 1)])
def test_exit_codes(account: Account, verdict: Verdict, code: int) -> None:
    def ask(_: Account) -> Answer:
        if verdict is Verdict.NOT_HERE:
            raise NotHere("there is no such thing")
        return Answer(verdict, "so it is")

    report, text = heard(account, [made_up("one", ask), made_up("two", lambda _: believed("yes"))])
    assert (report.exit_code, report.answers["one"].verdict) == (code, verdict)
    assert "the code believes: it is (README.md)" in text


def test_the_kinder_answers_of_the_local_aws_are_told_as_such(account: Account) -> None:
    _, text = heard(account, [made_up("one", lambda _: other("everybody may", kinder=True)), made_up("two", lambda _: other("5"))])
    assert "the local AWS is kinder: one: everybody may" in text
    assert "another answer: two: 5" in text


def test_what_is_not_known_here_or_not_permitted_is_not_to_be_had(account: Account) -> None:
    def refused(code: str) -> Callable[[Account], Answer]:
        def ask(_: Account) -> Answer:
            raise ClientError({"Error": {"Code": code, "Message": "no"}}, "CreateSomething")

        return ask

    codes = ("UnknownOperationException", "AccessDeniedException")
    report, _ = heard(account, [made_up(code, refused(code)) for code in codes])
    assert sorted(report.named(Verdict.NOT_HERE)) == sorted(codes)
    assert "who asks this may not" in report.answers["AccessDeniedException"].text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_stopped_removes_what_it_made(aws: LocalAws, account: Account, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    before, made = things(aws), threading.Event()
    again = threading.Event()

    def stops(account: Account) -> Answer:
        supplies.service(account, "stopped")
        supplies.queue(account, "stopped")
        made.set()
        os.kill(os.getpid(), number)
        account.sleep(60)
        return believed("never")

    def goes_on(account: Account) -> Answer:
        """Makes more until it may not."""
        made.wait()
        for count in range(10_000):
            supplies.queue(account, f"more-{count}")
        return believed("never")

    def impatient(account: Account, run: str | None, say: Callable[[str], None], **options: Any) -> list[str]:
        again.set()
        os.kill(os.getpid(), number)  # once more, while it removes
        return remove(account, run, say, **options)

    remove = leftovers.remove
    monkeypatch.setattr(leftovers, "remove", impatient)
    # As the command does it.
    earlier = {signal.SIGINT: signal.signal(signal.SIGINT, signal.default_int_handler)}
    earlier[signal.SIGTERM] = signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    try:
        report, text = heard(account, [made_up("stops", stops), made_up("goes-on", goes_on)])
    finally:
        for kind, handler in earlier.items():
            signal.signal(kind, handler)
    assert again.is_set()
    assert report.exit_code == 130
    assert "not answered, since it was stopped: stops, goes-on" in text
    assert things(aws) == before, text


def test_after_its_time_nothing_more_is_asked(aws: LocalAws, asker: boto3.session.Session) -> None:
    account = Account(asker, REGION, endpoint=aws.endpoint, is_local=True, minutes=0.02)

    def waits(account: Account) -> Answer:
        supplies.queue(account, "waits")
        account.sleep(60)
        return believed("never")

    before = things(aws)
    report, text = heard(account, [made_up("waits", waits)])
    assert report.answers["waits"].verdict is Verdict.NOT_HERE
    assert "the hour was over" in text
    assert things(aws) == before


def test_what_cannot_be_removed_is_named(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    def stuck(_: Account, url: str) -> None:
        raise ClientError({"Error": {"Code": "Stuck", "Message": "it is held"}}, "DeleteQueue")

    queues = next(kind for kind in leftovers.KINDS if kind.name == "queue")
    others = [kind for kind in leftovers.KINDS if kind.name != "queue"]
    monkeypatch.setattr(leftovers, "KINDS", (leftovers.Kind(queues.name, queues.find, queues.tags, stuck), *others))

    def ask(account: Account) -> Answer:
        supplies.queue(account, "stuck")
        account.role("not-stuck", [])
        return believed("yes")

    report, text = heard(account, [made_up("one", ask)])
    assert report.exit_code == 3
    assert f"COULD NOT BE REMOVED: queue {account.name('stuck')}: Stuck: it is held" in text
    # And all kinds after it are removed.
    assert leftovers.found(account, next(kind for kind in leftovers.KINDS if kind.name == "role"), account.run) == []
    monkeypatch.undo()
    assert leftovers.remove(account, account.run, print) == []


def test_clean_removes_what_earlier_runs_left_and_nothing_else(aws: LocalAws, account: Account, asker: boto3.session.Session) -> None:
    before = things(aws)
    sqs = aws.client("sqs", root_of(HUB))
    names = {
        "untagged": (f"{PREFIX}-0123abcd-untagged", {}),
        "of another run": (f"{PREFIX}-0123abcd-misnamed", {TAG: "ffffffff"}),
        "of another name": ("something-else", {TAG: account.run}),
    }
    urls = {sqs.create_queue(QueueName=name, tags=tags)["QueueUrl"] for name, tags in names.values()}
    for one in (account, Account(asker, REGION, endpoint=aws.endpoint, is_local=True)):
        supplies.service(one, "left")
        one.role("left", [{"Effect": "Allow", "Action": "sqs:*", "Resource": "*"}])
        supplies.queue(one, "left")
    said: list[str] = []
    assert leftovers.remove(account, None, said.append) == []
    assert things(aws) == before | urls, said
    for url in urls:
        sqs.delete_queue(QueueUrl=url)


# ---- what is kept, and what is said ----------------------------------------------------------------------------------


def test_a_fixture_tells_nothing_of_its_account(account: Account) -> None:
    secret = account.session.get_credentials().secret_key
    facts = {
        "arn": f"arn:aws:iam::{account.id}:role/{account.name('x')}",
        "another": "arn:aws:sts::999988887777:assumed-role/Admin/somebody",
        "url": f"https://sts/?X-Amz-Credential=ASIAABCDEFGHIJKLMNOP%2F2026&X-Amz-Signature=5ecre7&X-Amz-Security-Token={secret}",
        "said": f"User {account.caller} with {secret} is not authorized; AKIAABCDEFGHIJKLMNOP; in vpc-0a1b2c3d4e5f60718, subnet-0a1b2c3d",
        "number": 1234.5,
        "time": "2026-11-30T12:00:00+00:00",
    }
    question = made_up("secrets", lambda _: believed("never"))
    kept = json.dumps(fixtures.fixture(question, believed(f"by {account.caller}", **facts), account))
    for never in (account.id, account.run, secret, "999988887777", "ABCDEFGHIJKLMNOP", "5ecre7", "0a1b2c3d", "prover"):
        assert never not in kept, kept
    assert json.loads(kept)["facts"]["number"] == 1234.5
    assert "2026-11-30T12:00:00" in kept


@pytest.mark.parametrize("question", ALL, ids=QUESTIONS)
def test_what_a_question_says_that_is_believed_stands_there(question: Question) -> None:
    assert question.places
    for place in question.places:
        assert place.is_there(), f"{question.name}: {place.file} does not say {place.text!r} any more: is that still believed?"
    assert question.asked.endswith("?")
    assert question.matters.endswith(".") and question.how.endswith(".")


def test_a_place_that_is_not_there_is_noticed() -> None:
    assert Place("README.md", "ecs-updater").is_there()
    assert not Place("README.md", "ecs-updater is finished").is_there()
    assert not Place("NO-SUCH-FILE.md", "ecs-updater").is_there()


def test_it_fits_into_an_hour_and_two_dollars() -> None:
    assert sum(question.cents for question in ALL) < 200
    # Side by side; what waits longest begins first.
    assert max(question.minutes for question in ALL) <= 55
    assert sum(question.minutes for question in ALL) / prove.WORKERS <= 55


def test_the_page_has_the_table_of_the_questions() -> None:
    page = prove.PAGE.read_text()
    assert page == prove.written(page, ALL), "`make render` writes it"
