"""Every alarm of every template rings for its cause, however late its metric comes, and stays quiet for a caller's fault.

The end of pytest's output has the table: alarm, cause, and how many minutes after it the alarm rang. What is
CloudWatch's here is tools/local_aws/alarms.py, which names its sources; it is tried below on the tables of the user guide and on the
alarms that this project once had.
"""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pytest
from alarms import (
    ALARM,
    DAY,
    HOUR,
    MINUTE,
    OK,
    READINGS,
    Alarm,
    Change,
    Composite,
    Reading,
    Sample,
    Series,
    alarm,
    composite,
    judged,
    matches,
    watched,
)
from conftest import TABLES
from terraform import Missing, Terraform
from test_templates import ROOT, resolve, template
from test_terraform import MODULES, Made, address, address_of, snake

TEMPLATES = ("hub.yaml", "api.yaml", "trigger.yaml", "target-events.yaml")
# How long after the end of what they tell of metrics are there. SQS needs up to a quarter of an hour for a queue that nobody used:
# docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/monitoring-using-cloudwatch.html. Of the others no bound is told.
LATENESS = (MINUTE, 5 * MINUTE, 15 * MINUTE)
# The time limit of each function, by which Lambda's own metrics are late besides: their time is that of the invocation's start.
# docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-view.html ("The timestamp on a metric reflects when the function was invoked").
LIMITS = {"UpdaterFunction": 900, "HistoryFunction": 60, "RecorderFunction": 120}
START = 1_795_000_000 // HOUR * HOUR
# Where in a minute and in a period something happens.
PHASES = (0, 47, 171)
# Without arithmetic, there is nothing else that the documentation leaves open.
RETRIEVED = tuple(reading for reading in READINGS if reading.zero)


# ---- what is deployed ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Filter:
    """A metric filter."""

    group: str
    pattern: str
    series: Series
    default: float | None


@dataclass
class Deployed:
    """What one tool makes of the templates. Alarms go by the names that they have in the template."""

    alarms: dict[str, Alarm | Composite] = field(default_factory=dict)
    filters: list[Filter] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    """Logical id -> name."""


def prefix(file: str, logical_id: str) -> str:
    """An alarm's name in the table: those of the hub by themselves."""
    return logical_id if file == "hub.yaml" else f"{file.removesuffix('.yaml')}: {logical_id}"


@cache
def cloudformation() -> Deployed:
    """What CloudFormation makes, with the logical ids for names."""
    made = Deployed()
    for file in TEMPLATES:
        parsed = template(file)
        values: dict[str, Any] = {"AWS::StackName": "stack", "AWS::Region": "eu-west-1"}
        values |= {name: each.get("Default", name) or name for name, each in parsed["Parameters"].items()}
        for name in parsed["Resources"]:
            values |= {name: name, f"{name}.Arn": f"arn:aws:events:x:1:rule/bus/{name}", f"{name}.QueueName": name}
        every = dict.fromkeys(parsed["Conditions"], True)
        for name, each in parsed["Resources"].items():
            made.names[prefix(file, name)] = name
            kind = each["Type"]
            if kind not in ("AWS::CloudWatch::Alarm", "AWS::CloudWatch::CompositeAlarm", "AWS::Logs::MetricFilter"):
                continue
            properties = resolve(each["Properties"], values, every)
            if kind == "AWS::CloudWatch::Alarm":
                made.alarms[prefix(file, name)] = alarm(name, properties)
            elif kind == "AWS::CloudWatch::CompositeAlarm":
                made.alarms[prefix(file, name)] = composite(name, properties)
            else:
                (counted,) = properties["MetricTransformations"]
                series = Series(counted["MetricNamespace"], counted["MetricName"])
                default = counted.get("DefaultValue")
                made.filters.append(Filter(properties["LogGroupName"], properties["FilterPattern"], series, default))
    return made


def terraform() -> Deployed:
    """What Terraform makes, applied to a provider that only pretends."""
    try:
        tested = Terraform().run("test", "-json", "-verbose", "-filter=tests/mirror.tftest.json", capture=True)
    except Missing as missing:
        pytest.skip(str(missing))
    assert tested.returncode == 0, tested.stdout
    messages = [json.loads(line) for line in tested.stdout.splitlines()]
    states = {each["@testrun"]: each["test_state"]["root_module"]["resources"] for each in messages if "test_state" in each}
    made = Deployed()
    for file in TEMPLATES:
        resources: Made = {address(each["address"]): each["values"] for each in states[snake(MODULES[file])]}
        for name, each in template(file)["Resources"].items():
            if each["Type"] == "AWS::Lambda::Version":
                continue
            values = resources.get(address_of(each["Type"], name), {})
            made.names[prefix(file, name)] = str(values.get("function_name") or values.get("name") or values.get("arn"))
            if each["Type"] == "AWS::StepFunctions::StateMachine":
                made.names[name] = values["arn"]
            if each["Type"] == "AWS::CloudWatch::Alarm":
                assert not values["metric_query"], "as in the template, an alarm has no expression"
                properties = {re.sub(r"(^|_)(\w)", lambda part: part[2].upper(), key): value for key, value in values.items()}
                given = (values["dimensions"] or {}).items()
                properties["Dimensions"] = [{"Name": key, "Value": value} for key, value in given]
                made.alarms[prefix(file, name)] = alarm(values["alarm_name"], properties)
            elif each["Type"] == "AWS::CloudWatch::CompositeAlarm":
                properties = {"AlarmRule": values["alarm_rule"], "AlarmActions": values["alarm_actions"]}
                made.alarms[prefix(file, name)] = composite(values["alarm_name"], properties)
            elif each["Type"] == "AWS::Logs::MetricFilter":
                (counted,) = values["metric_transformation"]
                series = Series(counted["namespace"], counted["name"])
                default = float(counted["default_value"]) if counted["default_value"] else None
                made.filters.append(Filter(values["log_group_name"], values["pattern"], series, default))
    return made


@pytest.fixture(scope="module", params=[cloudformation, terraform], ids=lambda tool: tool.__name__)
def deployed(request: pytest.FixtureRequest) -> Deployed:
    """What either tool makes."""
    made: Deployed = request.param()
    return made


# ---- what happens ----------------------------------------------------------------------------------------------------

SUCCESS: dict[str, Any] = {"status": "success"}
TIMEOUT: dict[str, Any] = {"status": "timeout"}


class World:
    """What CloudWatch gets to know, and when."""

    def __init__(self, deployed: Deployed, late: float) -> None:
        self.deployed = deployed
        self.late = late
        self.samples: dict[Series, list[Sample]] = defaultdict(list)
        self.ended = float(START)
        """When the last of it happened."""

    def name(self, logical_id: str) -> str:
        """The name of a resource."""
        return self.deployed.names[logical_id]

    @property
    def namespace(self) -> str:
        """Of the functions' own metrics."""
        return next(each.series.namespace for each in self.deployed.filters if each.series.name == "UpdaterUnanswered")

    def sample(self, series: Series, at: float, known: float, value: float = 1) -> None:
        """A value dated `at`, of something that ended when it could be `known`."""
        self.samples[series].append(Sample(at, known + self.late, value))
        self.ended = max(self.ended, known)

    def aws(self, namespace: str, name: str, at: float, value: float = 1, **dimensions: str) -> None:
        """A metric of an AWS service, dated when it happened."""
        self.sample(Series(namespace, name, frozenset(dimensions.items())), at, at, value)

    def counted(self, name: str, at: float, **dimensions: str) -> None:
        """A line in embedded metric format. Its dimensions are those that src/telemetry.rs gives."""
        self.sample(Series(self.namespace, name, frozenset(dimensions.items())), at, at)

    def line(self, group: str, at: float, document: dict[str, Any]) -> None:
        """A line of a log, which filters may count. Their metrics have the line's time."""
        for each in self.deployed.filters:
            if each.group == self.name(group):
                if matches(each.pattern, json.dumps(document)):
                    self.sample(each.series, at, at)
                elif each.default is not None:
                    self.sample(each.series, at, at, each.default)

    def invoked(self, function: str, at: float, seconds: float, report: dict[str, Any], error: bool) -> None:
        """An invocation: Lambda's metrics, dated at its start and sent at its end, and Lambda's line in the log."""
        own = frozenset({("FunctionName", self.name(function))})
        for name, value in (("Invocations", 1.0), ("Errors", float(error)), ("Duration", 1000.0 * seconds)):
            self.sample(Series("AWS/Lambda", name, own), at, at + seconds, value)
        group = {"UpdaterFunction": "LogGroup", "HistoryFunction": "HistoryLogGroup", "RecorderFunction": "RecorderLogGroup"}
        self.line(group[function], at + seconds, {"type": "platform.report", "record": {"requestId": "r", **report}})

    def fails(self, code: str, fault: str, at: float) -> None:
        """The updater answers with a failure: a function error all the same. AWS calls such an invocation a success."""
        self.invoked("UpdaterFunction", at, 3, SUCCESS, error=True)
        self.counted("Failed", at + 3, code=code, fault=fault)

    def sweeps(self, start: float, end: float, late: Callable[[int], float] | None = None) -> None:
        """A sweep every five minutes."""
        for number, at in enumerate(range(int(start), int(end), 5 * MINUTE)):
            self.invoked("RecorderFunction", at, 2, SUCCESS, error=False)
            world_late, self.late = self.late, late(number) if late else self.late
            self.counted("SweepsDone", at + 2)
            self.late = world_late

    def tells(self, alarms: list[Alarm | Composite], start: float, end: float, reading: Reading) -> list[Change]:
        """What these alarms, made at `start`, tell until `end`."""
        dated = {series: sorted(samples, key=lambda sample: sample.at) for series, samples in self.samples.items()}
        return list(watched(alarms, lambda series: dated.get(series, ()), start, end, reading))


Happening = Callable[[World, float], None]


def dies(function: str, seconds: float, report: dict[str, Any]) -> Happening:
    """An invocation that gives no answer."""
    return lambda world, at: world.invoked(function, at, seconds, report, error=True)


def never_starts(function: str, group: str) -> Happening:
    """A function that ends when it starts. Its report of the invocation did not always say so."""

    def happening(world: World, at: float) -> None:
        world.invoked(function, at, 2, {}, error=True)
        record = {"phase": "invoke", "status": "error", "errorType": "Runtime.ExitError"}
        world.line(group, at + 2, {"type": "platform.initReport", "record": record})

    return happening


def of_function(name: str, function: str, times: int = 1) -> Happening:
    """A metric of Lambda that has the time at which it happened; `times` it, a minute between them."""

    def happening(world: World, at: float) -> None:
        for number in range(times):
            world.aws("AWS/Lambda", name, at + MINUTE * number, FunctionName=world.name(function))

    return happening


def slow(function: str, share: float) -> Happening:
    """Two invocations that take nearly all of their time, ten minutes apart."""

    def happening(world: World, at: float) -> None:
        for start in (at, at + 10 * MINUTE):
            world.invoked(function, start, LIMITS[function] * share, SUCCESS, error=False)

    return happening


def failing(code: str, fault: str = "operator") -> Happening:
    """A change that fails."""
    return lambda world, at: world.fails(code, fault, at)


def letters(queue: str) -> Happening:
    """A message in a queue, of which SQS tells every minute from then on. For two hours: then it is taken."""

    def happening(world: World, at: float) -> None:
        for number in range(120):
            world.aws("AWS/SQS", "ApproximateNumberOfMessagesVisible", at + MINUTE * number, QueueName=world.name(queue))

    return happening


def waits(queue: str) -> Happening:
    """A message that has waited for an hour, and goes on to. For two hours: then it is taken."""

    def happening(world: World, at: float) -> None:
        for number in range(-60, 120):
            age, name = HOUR + MINUTE * number, world.name(queue)
            world.aws("AWS/SQS", "ApproximateAgeOfOldestMessage", at + MINUTE * number, age, QueueName=name)

    return happening


def rule(name: str, metric: str, bus: str = "") -> Happening:
    """An event that a rule loses."""

    def happening(world: World, at: float) -> None:
        dimensions = {"RuleName": world.name(name), **({"EventBusName": world.name(bus)} if bus else {})}
        world.aws("AWS/Events", metric, at, **dimensions)

    return happening


def tampering(world: World, at: float) -> None:
    """A change of the hub's own resources, told by CloudTrail."""
    world.aws("AWS/SQS", "NumberOfMessagesSent", at, QueueName=world.name("TamperingQueue"))


def execution(metric: str) -> Happening:
    """An execution of the state machine that ends so."""
    return lambda world, at: world.aws("AWS/States", metric, at, StateMachineArn=world.name("Waves"))


def question_fails(world: World, at: float) -> None:
    """The history cannot be read."""
    world.invoked("HistoryFunction", at, 2, SUCCESS, error=True)
    world.counted("QuestionFailed", at + 2, fault="operator")


def recorder_fails(world: World, at: float) -> None:
    """Each invocation of the recorder runs out of time."""
    for number in range(3):
        world.invoked("RecorderFunction", at + 5 * MINUTE * number, 120, TIMEOUT, error=True)


def sweeps_stop(world: World, at: float) -> None:
    """They went on for some hours."""
    world.sweeps(at - 4 * HOUR, at)


def door_fails(world: World, at: float) -> None:
    """API Gateway cannot ask a function."""
    world.line("api: AccessLog", at, {"status": "500", "error": "API_CONFIGURATION_ERROR"})


KILLED = {"status": "error", "errorType": "Runtime.ExitError"}
# Alarm -> what it is for.
CAUSES: dict[str, dict[str, Happening]] = {
    "UpdaterErrorsAlarm": {
        "time-out after 900 s": dies("UpdaterFunction", 900, TIMEOUT),
        "crash, or out of memory": dies("UpdaterFunction", 20, KILLED),
        "does not start": never_starts("UpdaterFunction", "LogGroup"),
    },
    "UpdaterThrottlesAlarm": {"throttled for 10 minutes": of_function("Throttles", "UpdaterFunction", 10)},
    "UpdaterDurationAlarm": {"two of 890 s, 10 minutes apart": slow("UpdaterFunction", 890 / 900)},
    "UpdaterDroppedAlarm": {"an event given up": of_function("AsyncEventsDropped", "UpdaterFunction")},
    "UpdaterLostAlarm": {"a dead letter refused": of_function("DestinationDeliveryFailures", "UpdaterFunction")},
    "HistoryErrorsAlarm": {
        "time-out after 60 s": dies("HistoryFunction", 60, TIMEOUT),
        "crash, or out of memory": dies("HistoryFunction", 1, KILLED),
        "does not start": never_starts("HistoryFunction", "HistoryLogGroup"),
    },
    "HistoryQuestionsAlarm": {"tables not read": question_fails},
    "HistoryThrottlesAlarm": {"throttled for 10 minutes": of_function("Throttles", "HistoryFunction", 10)},
    "HistoryDurationAlarm": {"two of 57 s, 10 minutes apart": slow("HistoryFunction", 0.95)},
    "HistoryDroppedAlarm": {"an event given up": of_function("AsyncEventsDropped", "HistoryFunction")},
    **{
        f"{code}Alarm": {f"{code}, the operator's": failing(code)}
        for code in (
            "AssumeRoleFailed",
            "HistoryUnavailable",
            "ClockSkewed",
            "ServiceReadFailed",
            "TaskDefinitionRejected",
            "RegistryUnavailable",
            "ServiceUpdateFailed",
            "TagUpdateFailed",
            "ChangeInProgress",
        )
    },
    "DeadLettersAlarm": {"a dead letter": letters("DeadLetters")},
    "TamperingAlarm": {"a policy taken away": tampering},
    "RecorderErrorsAlarm": {"three time-outs of 120 s": recorder_fails},
    "RecorderThrottlesAlarm": {"throttled for 10 minutes": of_function("Throttles", "RecorderFunction", 10)},
    "RecorderDurationAlarm": {"two of 114 s, 10 minutes apart": slow("RecorderFunction", 0.95)},
    "RecorderDroppedAlarm": {"an event given up": of_function("AsyncEventsDropped", "RecorderFunction")},
    "RecorderLostAlarm": {"a dead letter refused": of_function("DestinationDeliveryFailures", "RecorderFunction")},
    "SweepAlarm": {"sweeps stop": sweeps_stop},
    "RecorderRuleAlarm": {"an event lost": rule("RecorderRule", "InvocationsFailedToBeSentToDlq", "EventBus")},
    "TargetAlarmsRuleAlarm": {"an alarm lost": rule("TargetAlarmsRule", "FailedInvocations", "EventBus")},
    "SweepRuleAlarm": {"a call lost": rule("SweepRule", "InvocationsFailedToBeSentToDlq")},
    "WavesFailedAlarm": {"a rollout stopped": execution("ExecutionsFailed")},
    "WavesTimedOutAlarm": {"a rollout took too long": execution("ExecutionsTimedOut")},
    "WavesAbortedAlarm": {"a rollout aborted": execution("ExecutionsAborted")},
    "api: BrokenAlarm": {"the door fails by itself": door_fails},
    "trigger: TriggerDeadLettersAlarm": {"a push given up": letters("trigger: TriggerDeadLetters")},
    "trigger: TriggerWaitingAlarm": {"a push not taken for an hour": waits("trigger: TriggerQueue")},
    "trigger: TriggerRuleAlarm": {"a push lost": rule("trigger: TriggerRule", "FailedInvocations")},
    "target-events: DeadLettersAlarm": {"an event kept back": letters("target-events: DeadLetters")},
    "target-events: LostAlarm": {
        "an event lost": rule("target-events: DeploymentsRule", "InvocationsFailedToBeSentToDlq")
    },
}
# Of which another alarm tells.
PARTS = {"SweepSilentAlarm", "SweepSeenAlarm"}


def callers_codes() -> list[str]:
    """The codes of failures that are their callers' (crates/domain/src/error.rs)."""
    faults = (ROOT / "crates/domain/src/error.rs").read_text().split("fn fault(self)")[1].split("fn text(self)")[0]
    return re.findall(r"Self::(\w+)", faults.split("=> Fault::Caller")[0])


def callers_fail(world: World, at: float) -> None:
    """Every failure that may be its caller's, for an hour. ECS refuses values with codes that may be the operator's, too."""
    codes = [*callers_codes(), "TaskDefinitionRejected", "ServiceUpdateFailed", "TagUpdateFailed", "RegistryUnavailable"]
    for number in range(60):
        for code in codes:
            world.fails(code, "caller", at + MINUTE * number)


def as_lambda_may_call_it(world: World, at: float) -> None:
    """An answered error, should Lambda ever call that one: with the type that it makes of what Rust's runtime sends."""
    for number in range(60):
        report = {"status": "error", "errorType": "Runtime.Unknown"}
        world.invoked("UpdaterFunction", at + MINUTE * number, 3, report, error=True)
        world.invoked("HistoryFunction", at + MINUTE * number, 3, report, error=True)


def wrong_questions(world: World, at: float) -> None:
    """Questions that nobody could answer."""
    for number in range(60):
        world.invoked("HistoryFunction", at + MINUTE * number, 1, SUCCESS, error=True)
        world.counted("QuestionFailed", at + MINUTE * number + 1, fault="caller")


def long_waits(world: World, at: float) -> None:
    """Callers that wait for as long as they may, and changes that are done."""
    for number in range(30):
        world.invoked("UpdaterFunction", at + 2 * MINUTE * number, 860, SUCCESS, error=False)
        world.counted("Applied", at + 2 * MINUTE * number + 20)


def wrong_requests(world: World, at: float) -> None:
    """What the door refuses, and what functions answer with 5xx, of which they tell themselves."""
    for number in range(60):
        world.line("api: AccessLog", at + MINUTE * number, {"status": "400", "error": "BAD_REQUEST_BODY"})
        world.line("api: AccessLog", at + MINUTE * number, {"status": "502", "error": "-"})


def one_throttle(world: World, at: float) -> None:
    """Lambda has no room once: whoever asked tries again."""
    for function in LIMITS:
        of_function("Throttles", function)(world, at)


def one_recorder_error(world: World, at: float) -> None:
    """Lambda tries it again."""
    world.invoked("RecorderFunction", at, 120, TIMEOUT, error=True)


def sweeps_go_on(world: World, at: float) -> None:
    """Their metrics now come at once, now late."""
    world.sweeps(at, at + 6 * HOUR, late=lambda number: (MINUTE, 15 * MINUTE, 4 * MINUTE)[number % 3])


def a_new_hub(world: World, at: float) -> None:
    """Nothing yet; then sweeps."""
    world.sweeps(at + 5 * MINUTE, at + 5 * HOUR)


QUIET: dict[str, Happening] = {
    "nothing": lambda world, at: None,
    "failures that are their callers'": callers_fail,
    "answered errors that Lambda calls errors": as_lambda_may_call_it,
    "wrong questions": wrong_questions,
    "waits of 840 s": long_waits,
    "requests that the door refuses": wrong_requests,
    "one throttled invocation": one_throttle,
    "one error of the recorder": one_recorder_error,
    "sweeps, some late": sweeps_go_on,
    "a new hub": a_new_hub,
}


def asynchronous(function: str, *more: Happening) -> Happening:
    """An asynchronous event that its function refuses each time."""

    def happening(world: World, at: float) -> None:
        of_function("AsyncEventsDropped", function)(world, at)
        for each in more:
            each(world, at)

    return happening


# Faults of callers that ring all the same: the alarms that tell of them, and why they are not told apart. docs/ALARMS.md says it to operators.
RINGS_FOR_CALLERS: dict[str, tuple[set[str], Happening, str]] = {
    "an event that nobody waits for is wrong": (
        {"DeadLettersAlarm", "UpdaterDroppedAlarm"},
        asynchronous("UpdaterFunction", letters("DeadLetters")),
        "its sender never sees the answer, and nobody else would be told",
    ),
    "a question that nobody waits for is wrong": (
        {"HistoryDroppedAlarm"},
        asynchronous("HistoryFunction"),
        "who asks so has an error in a program, and sees no answer",
    ),
    "an account is mistyped": (
        {"AssumeRoleFailedAlarm"},
        failing("AssumeRoleFailed"),
        "STS says the same of it as of an account without its role; AllowedAccounts tells them apart",
    ),
    "the input of a rollout is refused": (
        {"WavesFailedAlarm"},
        execution("ExecutionsFailed"),
        "Step Functions counts failed executions without their error, and tells it in logs on a best-effort basis only",
    ),
}


# ---- the tests -------------------------------------------------------------------------------------------------------


def test_every_alarm_has_its_cause(deployed: Deployed) -> None:
    assert set(CAUSES) | PARTS == set(deployed.alarms)
    assert PARTS == {name for name, each in deployed.alarms.items() if not each.pages}


def test_no_alarm_that_pages_fills_or_reckons(deployed: Deployed) -> None:
    """FILL makes the latest period 0 where a metric is late, and what arithmetic makes of a missing part is told in two ways."""
    for name, each in deployed.alarms.items():
        if isinstance(each, Alarm):
            assert (list(each.metrics), each.expression) == (["only"], "only"), name


def test_every_alarm_looks_back_for_longer_than_its_metric_is_late(deployed: Deployed) -> None:
    resources = template("hub.yaml")["Resources"]
    assert {function: resources[function]["Properties"]["Timeout"] for function in LIMITS} == LIMITS
    limits = {deployed.names[function]: limit for function, limit in LIMITS.items()}
    for name, each in deployed.alarms.items():
        if isinstance(each, Alarm):
            (asked,) = each.metrics.values()
            at_the_start = asked.series.name in ("Errors", "Duration", "Invocations")
            running = limits[dict(asked.series.dimensions)["FunctionName"]] if at_the_start else 0
            # A period is never whole when it begins; several data points need as many periods.
            needed = 1 if each.operator.startswith("Less") else each.needed
            assert each.window >= max(LATENESS) + running + each.period * needed, name


def rang(changes: list[Change], name: str) -> float | None:
    """When somebody was told of an alarm first."""
    return next((change.at for change in changes if change.name == name and change.pages), None)


def test_every_alarm_rings_for_its_cause(deployed: Deployed, request: pytest.FixtureRequest) -> None:
    rows = []
    for name, causes in CAUSES.items():
        each = deployed.alarms[name]
        alarms = [each]
        if isinstance(each, Composite):
            alarms = [part for part in deployed.alarms.values() if part.name in each.parts] + [each]
        for cause, happening in causes.items():
            cells = []
            for late in LATENESS:
                minutes = []
                for phase in PHASES:
                    world = World(deployed, late)
                    began = START + phase
                    happening(world, began)
                    first = min(sample.at for samples in world.samples.values() for sample in samples)
                    for reading in RETRIEVED:
                        changes = world.tells(alarms, first - 10 * MINUTE, world.ended + 2 * HOUR, reading)
                        at = rang(changes, each.name)
                        assert at is not None, f"{name} does not ring for: {cause}, {late} s late, {reading}"
                        minutes.append(math.ceil((at - began) / MINUTE))
                        told = [change.at for change in changes if change.pages]
                        assert len(told) == 1, f"{name} rings {len(told)} times for: {cause}, {late} s late, {reading}"
                        states = [change.state for change in changes if change.name == each.name]
                        assert name == "SweepAlarm" or states[-1] == OK, f"{name} is stuck after: {cause}"
                low, high = min(minutes), max(minutes)
                cells.append(f"{low}" if low == high else f"{low} to {high}")
            rows.append((name, cause, *cells))
    head = ("alarm", "cause", *(f"{late // MINUTE} min late" for late in LATENESS))
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    title = f"{request.node.callspec.id}: minutes from when the trouble began until somebody is told"
    lines = [
        "| " + " | ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) + " |"
        for row in (head, tuple("-" * width for width in widths), *rows)
    ]
    request.config.stash.setdefault(TABLES, []).append("\n".join([title, *lines]))


@pytest.mark.parametrize("what", QUIET)
def test_every_alarm_is_quiet_for_what_is_no_operators_fault(deployed: Deployed, what: str) -> None:
    for late in LATENESS:
        world = World(deployed, late)
        QUIET[what](world, START + PHASES[1])
        # Where a stream of sweeps simply ends, its alarm is right to tell later.
        end = max(world.ended, START + HOUR) + 15 * MINUTE
        for reading in RETRIEVED:
            changes = world.tells(list(deployed.alarms.values()), START, end, reading)
            assert [change for change in changes if change.pages] == [], (late, reading)


@pytest.mark.parametrize("what", RINGS_FOR_CALLERS)
def test_what_rings_for_a_caller_is_listed_with_its_reason(deployed: Deployed, what: str) -> None:
    names, happening, why = RINGS_FOR_CALLERS[what]
    assert why
    for late in LATENESS:
        world = World(deployed, late)
        happening(world, START + PHASES[1])
        changes = world.tells(list(deployed.alarms.values()), START, world.ended + HOUR, RETRIEVED[0])
        assert {change.name for change in changes if change.pages} == {deployed.alarms[name].name for name in names}, late
    listed = (ROOT / "docs" / "ALARMS.md").read_text().split("## What a caller can ring")[1].split("\n## ")[0]
    assert all(f"`{name}`" in listed for name in names)


def test_nothing_else_that_rings_for_a_caller_is_listed() -> None:
    listed = (ROOT / "docs" / "ALARMS.md").read_text().split("## What a caller can ring")[1].split("\n## ")[0]
    assert set(re.findall(r"`(\w+Alarm)`", listed)) == set().union(*(names for names, *_ in RINGS_FOR_CALLERS.values()))


def test_both_functions_count_what_ends_without_an_answer_alike(deployed: Deployed) -> None:
    patterns = {" ".join(each.pattern.split()) for each in deployed.filters if each.series.name.endswith("Unanswered")}
    assert len(patterns) == 1
    # And they count what Lambda writes as JSON.
    resources = template("hub.yaml")["Resources"]
    for function in ("UpdaterFunction", "HistoryFunction"):
        assert resources[function]["Properties"]["LoggingConfig"]["LogFormat"] == "JSON"


# ---- what CloudWatch is here -----------------------------------------------------------------------------------------

# The tables of docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarms-and-missing-data.html: EvaluationPeriods is 3, 5 data points
# are retrieved, the latest stands on the right. DatapointsToAlarm, the data points, and the states where what is missing is breaching, and
# where it is not.
DOCUMENTED = [
    (3, "0 - X - X", OK, OK),
    (3, "0 - - - -", OK, OK),
    (3, "- - - - -", ALARM, OK),
    (3, "0 X X - X", ALARM, ALARM),
    (3, "- - X - -", ALARM, OK),
    (2, "0 - X - X", ALARM, ALARM),
    (2, "0 0 X 0 X", ALARM, ALARM),
    (2, "0 - X - -", ALARM, OK),
    (2, "- - - - 0", ALARM, OK),
    (2, "- - - X -", ALARM, OK),
]


def one(name: str = "x", **properties: Any) -> Alarm:
    """An alarm on one metric."""
    shape = {"Namespace": "n", "MetricName": "m", "Statistic": "Sum", "Period": 300, "Threshold": 1, "AlarmActions": ["a"]}
    return alarm(name, {**shape, "ComparisonOperator": "GreaterThanOrEqualToThreshold", **properties})


@pytest.mark.parametrize(("needed", "points", "breaching", "not_breaching"), DOCUMENTED)
def test_missing_data_are_treated_as_the_user_guide_says(
    needed: int, points: str, breaching: str, not_breaching: str
) -> None:
    values = [{"0": 0.0, "X": 1.0, "-": None}[point] for point in reversed(points.split())]
    for missing, expected in (("breaching", breaching), ("notBreaching", not_breaching)):
        each = one(EvaluationPeriods=3, DatapointsToAlarm=needed, TreatMissingData=missing)
        assert judged(each, values) == expected, missing


def reckoned(period: int, expression: str, **metrics: str) -> Alarm:
    """An alarm on several metrics."""
    stats = [
        {"Id": name, "MetricStat": {"Metric": {"Namespace": "n", "MetricName": each}, "Period": period, "Stat": "Sum"}}
        for name, each in metrics.items()
    ]
    shape = {"EvaluationPeriods": 1, "ComparisonOperator": "GreaterThanOrEqualToThreshold", "Threshold": 1}
    watched_by = {"Id": "watched", "Expression": expression}
    return alarm("x", {**shape, "TreatMissingData": "notBreaching", "AlarmActions": ["a"], "Metrics": [watched_by, *stats]})


def told(each: Alarm, samples: dict[str, list[Sample]], reading: Reading) -> int:
    """How often somebody is told, within some hours."""
    known = {Series("n", name): values for name, values in samples.items()}
    return sum(change.pages for change in watched([each], lambda of: known.get(of, ()), START - HOUR, START + 3 * HOUR, reading))


@pytest.mark.parametrize("reading", READINGS)
def test_the_alarms_that_could_not_ring_do_not_ring_here(reading: Reading) -> None:
    """As they were before. An emulator that is kinder lets them ring."""
    waves = reckoned(60, "FILL(failed, 0) + FILL(late, 0) + FILL(aborted, 0)", failed="failed", late="late", aborted="aborted")
    assert told(waves, {"failed": [Sample(START, START + 2 * MINUTE)]}, reading) == 0
    assert told(waves, {"failed": [Sample(START, START)]}, reading) == 1, "at once is never late"
    dropped = reckoned(300, "FILL(dropped, 0) + FILL(lost, 0)", dropped="dropped", lost="lost")
    assert told(dropped, {"dropped": [Sample(START, START + 6 * MINUTE)]}, reading) == 0
    # A time-out of 900 s, dated at its start.
    errors = reckoned(300, "errors - FILL(answered, 0)", errors="errors", answered="answered")
    timed_out = {"errors": [Sample(START, START + 960)]}
    if reading.extra == 0:
        assert told(errors, timed_out, reading) == 0
    # The metric of the log lags behind Lambda's: an answered error pages.
    lags = {"errors": [Sample(START, START + MINUTE)], "answered": [Sample(START, START + 3 * MINUTE)]}
    assert told(errors, lags, reading) == 1
    duration = one(EvaluationPeriods=3, DatapointsToAlarm=2, Threshold=882_000, TreatMissingData="notBreaching")
    waits = [Sample(START + apart, START + apart + 950, 890_000) for apart in (0, 10 * MINUTE)]
    if reading.extra == 0:
        assert told(duration, {"m": waits}, reading) == 0


def test_a_window_of_days_is_looked_at_every_hour() -> None:
    each = one(Period=HOUR, EvaluationPeriods=168, DatapointsToAlarm=1, TreatMissingData="notBreaching")
    assert each.window == 7 * DAY
    known = [Sample(START + 61, START + 61)]
    changes = list(watched([each], lambda of: known, START, START + 2 * HOUR, READINGS[0]))
    assert [(change.at - START, change.state) for change in changes] == [(0, OK), (HOUR, ALARM)]


@pytest.mark.parametrize(
    ("record", "counts"),
    [
        ({"status": "success"}, False),
        ({"status": "timeout"}, True),
        ({"status": "error", "errorType": "Runtime.ExitError"}, True),
        ({"status": "error", "errorType": "Runtime.OutOfMemory"}, True),
        ({"status": "failure", "errorType": "Sandbox.Failure"}, True),
        ({"status": "error", "errorType": "Runtime.Unknown"}, False),
        ({"metrics": {"durationMs": 1}}, False),
    ],
)
def test_what_lambda_reports_is_counted_by_how_it_ended(record: dict[str, Any], counts: bool) -> None:
    pattern = next(each.pattern for each in cloudformation().filters if each.series.name == "UpdaterUnanswered")
    assert matches(pattern, json.dumps({"time": "t", "type": "platform.report", "record": record})) is counts
    assert not matches(pattern, json.dumps({"level": "ERROR", "record": record}))
    assert not matches(pattern, "REPORT RequestId: r Status: timeout")
