"""How CloudWatch evaluates alarms and counts lines of logs, as values: no clock, no AWS, nothing that is remembered.

The local AWS evaluates its alarms with it, and tests/e2e/test_alarms.py those of every template, on metrics that come late.
Only what the templates use is here; whatever else an alarm has, is an error.

What it follows (CloudWatch user guide, docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/):

* alarm-evaluation.html: an alarm is evaluated every minute, over a window of Period times EvaluationPeriods that slides
  with the minutes; one whose window is longer than a day, every hour. Actions happen only where the state changes.
* alarms-and-missing-data.html: CloudWatch retrieves more data points than EvaluationPeriods, how many more it does not
  say; what is missing is filled in as TreatMissingData says, as few times as possible.
* using-metric-math.html: FILL fills the latest period too, so that an alarm on a metric that comes a little late is
  "stuck in either OK state or ALARM state". "Missing values in a time series are treated as 0" by arithmetic; others
  report that a data point of which one part is missing is missing. An alarm must be right either way: see `Reading`.
* docs.aws.amazon.com/AmazonCloudWatch/latest/logs/FilterAndPatternSyntax.html: patterns of metric filters.
"""

from __future__ import annotations

import json
import math
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

MINUTE, HOUR, DAY = 60, 3600, 86400
OK, ALARM, INSUFFICIENT_DATA = "OK", "ALARM", "INSUFFICIENT_DATA"

# What it takes to be over, in the words of CloudWatch.
OVER: dict[str, Callable[[float, float], bool]] = {
    "GreaterThanOrEqualToThreshold": lambda value, threshold: value >= threshold,
    "GreaterThanThreshold": lambda value, threshold: value > threshold,
    "LessThanThreshold": lambda value, threshold: value < threshold,
    "LessThanOrEqualToThreshold": lambda value, threshold: value <= threshold,
}
STATISTICS: dict[str, Callable[[list[float]], float]] = {
    "Sum": sum,
    "Maximum": max,
    "p99": lambda values: sorted(values)[math.ceil(len(values) * 0.99) - 1],
}


# ---- metrics ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Series:
    """A metric: CloudWatch takes each set of dimensions for another one."""

    namespace: str
    name: str
    dimensions: frozenset[tuple[str, str]] = frozenset()


@dataclass(frozen=True)
class Sample:
    """A value of a metric: dated `at`, and known to CloudWatch from `arrives` on."""

    at: float
    arrives: float
    value: float = 1


Samples = Callable[[Series], Sequence[Sample]]
"""What there is of a series, in the order of the times that it is dated."""


@dataclass(frozen=True)
class Metric:
    """What an alarm asks of a series."""

    series: Series
    statistic: str
    period: int


@dataclass(frozen=True)
class Reading:
    """What the documentation leaves open. An alarm must be right under each."""

    extra: int = 0
    """How many more data points than EvaluationPeriods are retrieved."""
    zero: bool = True
    """Whether arithmetic takes what is missing for 0, where another part of the data point is there."""


READINGS = tuple(Reading(extra, zero) for extra in (0, 2, 3) for zero in (True, False))


# ---- alarms ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Alarm:
    """An alarm on a metric, or on an expression of several."""

    name: str
    metrics: dict[str, Metric]
    expression: str
    """Of the names of metrics; of the one metric, its name."""
    periods: int
    needed: int
    """How many data points of those periods have to be over."""
    operator: str
    threshold: float
    missing: str
    pages: bool

    @property
    def period(self) -> int:
        """The one period that all its metrics have."""
        (period,) = {metric.period for metric in self.metrics.values()}
        return period

    @property
    def window(self) -> int:
        """Seconds that it looks back, as far as that is certain."""
        return self.period * self.periods

    @property
    def every(self) -> int:
        """Seconds between evaluations."""
        return HOUR if self.window > DAY else MINUTE


@dataclass(frozen=True)
class Composite:
    """An alarm on the states of others: all of those that its rule names are in ALARM."""

    name: str
    parts: tuple[str, ...]
    pages: bool


def metric(asked: dict[str, Any], period: Any, statistic: str) -> Metric:
    """A metric in the words of the API."""
    dimensions = frozenset((each["Name"], each["Value"]) for each in asked.get("Dimensions", []))
    return Metric(Series(asked["Namespace"], asked["MetricName"], dimensions), statistic, int(period))


def alarm(name: str, properties: dict[str, Any]) -> Alarm:
    """An alarm, of what CloudFormation or the API calls its properties."""
    if metrics := properties.get("Metrics"):
        (expression,) = [each["Expression"] for each in metrics if "Expression" in each]
        found = {each["Id"]: each["MetricStat"] for each in metrics if "MetricStat" in each}
        asked = {name: metric(each["Metric"], each["Period"], each["Stat"]) for name, each in found.items()}
    else:
        statistic = properties.get("ExtendedStatistic") or properties["Statistic"]
        asked, expression = {"only": metric(properties, properties["Period"], statistic)}, "only"
    periods = int(properties["EvaluationPeriods"])
    return Alarm(
        name=name,
        metrics=asked,
        expression=expression,
        periods=periods,
        needed=int(properties.get("DatapointsToAlarm") or periods),
        operator=properties["ComparisonOperator"],
        threshold=float(properties["Threshold"]),
        missing=properties["TreatMissingData"],
        pages=bool(properties.get("AlarmActions")),
    )


def composite(name: str, properties: dict[str, Any]) -> Composite:
    """A composite alarm, of its properties."""
    parts = properties["AlarmRule"].split(" AND ")
    names = [re.fullmatch(r'ALARM\("(.+)"\)', part) for part in parts]
    if not all(names):
        raise ValueError(f"a rule that is not known here: {properties['AlarmRule']}")
    return Composite(name, tuple(found[1] for found in names if found), bool(properties.get("AlarmActions")))


# ---- one evaluation --------------------------------------------------------------------------------------------------

Values = list[float | None]
"""A series in periods, the latest first; None where it has no value."""


def periods(asked: Metric, samples: Samples, now: float, count: int) -> Values:
    """A metric in its last `count` periods, as far as CloudWatch knows it `now`."""
    found: list[list[float]] = [[] for _ in range(count)]
    dated = samples(asked.series)
    first = bisect_right(dated, now - asked.period * count, key=lambda sample: sample.at)
    for sample in dated[first : bisect_right(dated, now, key=lambda sample: sample.at)]:
        if sample.arrives <= now:
            found[math.floor((now - sample.at) / asked.period)].append(sample.value)
    return [STATISTICS[asked.statistic](values) if values else None for values in found]


def calculated(expression: str, values: dict[str, Values], reading: Reading) -> Values:
    """An expression of sums and differences of metrics, with FILL."""
    total: Values = []
    sign = "+"
    for term in re.findall(r"FILL\(\w+, *\d+\)|[\w.]+|[^\s\w]", expression):
        if term in "+-":
            sign = term
            continue
        filled = re.fullmatch(r"FILL\((\w+), *(\d+)\)", term)
        right = values[filled[1] if filled else term]
        if filled:
            right = [float(filled[2]) if value is None else value for value in right]
        total = [added(*pair, sign, reading) for pair in zip(total, right, strict=True)] if total else right
    return total


def added(left: float | None, right: float | None, sign: str, reading: Reading) -> float | None:
    """A sum or a difference."""
    if left is None and right is None or not reading.zero and None in (left, right):
        return None
    return (left or 0) + (right or 0) * (1 if sign == "+" else -1)


def state(of: Alarm, samples: Samples, now: float, reading: Reading) -> str:
    """The state of an alarm `now`."""
    asked = {name: periods(each, samples, now, of.periods + reading.extra) for name, each in of.metrics.items()}
    return judged(of, calculated(of.expression, asked, reading))


def judged(of: Alarm, points: Values) -> str:
    """The state of an alarm on these data points, the latest first."""
    real = [value for value in points if value is not None][: of.periods]
    over = sum(OVER[of.operator](value, of.threshold) for value in real)
    missing = of.periods - len(real)
    if missing and of.missing not in ("breaching", "notBreaching"):
        raise ValueError(f"{of.name}: TreatMissingData {of.missing} is not known here")
    if of.missing == "breaching":
        over += missing
    return ALARM if over >= of.needed else OK


# ---- some hours of it ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Change:
    """An alarm's new state."""

    at: float
    name: str
    state: str
    pages: bool
    """Whether somebody is told."""


def watched(
    alarms: Iterable[Alarm | Composite],
    samples: Samples,
    start: float,
    end: float,
    reading: Reading,
) -> Iterator[Change]:
    """What alarms that are made at `start` tell until `end`."""
    known = {each.name: INSUFFICIENT_DATA for each in alarms}
    plain = [each for each in alarms if isinstance(each, Alarm)]
    # What has no data has one state only.
    silent = {each.name for each in plain if not any(samples(asked.series) for asked in each.metrics.values())}
    for now in range(math.ceil(start / MINUTE) * MINUTE, math.ceil(end), MINUTE):
        for each in plain:
            if known[each.name] == INSUFFICIENT_DATA or now % each.every == 0 and each.name not in silent:
                new = state(each, samples, now, reading)
                if new != known[each.name]:
                    known[each.name] = new
                    yield Change(now, each.name, new, each.pages and new == ALARM)
        for each in alarms:
            if isinstance(each, Composite):
                new = ALARM if all(known[part] == ALARM for part in each.parts) else OK
                if new != known[each.name]:
                    known[each.name] = new
                    yield Change(now, each.name, new, each.pages and new == ALARM)


# ---- metric filters --------------------------------------------------------------------------------------------------

TOKENS = re.compile(r"\s*(&&|\|\||!=|=|\(|\)|\$\.[\w.]+|\"[^\"]*\")")


def matches(pattern: str, line: str) -> bool:
    """Whether a metric filter's pattern for JSON matches a line: comparisons of texts, joined by && and ||."""
    try:
        document = json.loads(line)
    except ValueError:
        return False
    body = re.fullmatch(r"\s*\{(.*)}\s*", pattern, re.S)
    if body is None:
        raise ValueError(f"a pattern that is not known here: {pattern}")
    tokens = TOKENS.findall(body[1])
    if "".join(tokens) != re.sub(r"\s+(?=(?:[^\"]*\"[^\"]*\")*[^\"]*$)", "", body[1]):
        raise ValueError(f"a pattern that is not known here: {pattern}")
    tokens.append("")

    def either() -> bool:
        found = both()
        while tokens[0] == "||":
            tokens.pop(0)
            found = both() or found
        return found

    def both() -> bool:
        found = one()
        while tokens[0] == "&&":
            tokens.pop(0)
            found = one() and found
        return found

    def one() -> bool:
        if tokens[0] == "(":
            tokens.pop(0)
            found = either()
            assert tokens.pop(0) == ")", pattern
            return found
        selector, comparison, text = tokens.pop(0), tokens.pop(0), tokens.pop(0)
        value: Any = document
        for name in selector.removeprefix("$.").split("."):
            value = value.get(name) if isinstance(value, dict) else None
        # What is not there is neither equal nor different.
        if not isinstance(value, (str, int)):
            return False
        wanted = re.escape(text.strip('"')).replace(r"\*", ".*")
        return (re.fullmatch(wanted, str(value)) is not None) == (comparison == "=")

    found = either()
    assert tokens == [""], pattern
    return found
