"""The first version's checks, over the deployed function: `make run-lambda-test-unittest`, or `-inittest`.

There are 29, under the numbers that the first version gave them, and one that fails says its number: `[FAILED CHECK 1.1.1]`.
They run one after the other, each case on what the case before it left:

| numbers | event of tests/events | what is checked |
|---|---|---|
| 1.1.1 | base, the regular case: from busybox to nginx | response code of the execution |
| 1.1.2, 1.1.3 | | image and tags in BEFORE |
| 1.1.4, 1.1.5 | | image and tags in AFTER |
| 2.1.1, 2.1.2, 2.1.3 | MISSING_JSON_FIELD | response code, errorType, error message |
| 2.2.1, 2.2.2, 2.2.3 | WRONG_JSON_FORMAT | the same |
| 3.1.1, 3.1.2, 3.1.3 | MISSING_ECS_CLUSTER | the same |
| 3.2.1, 3.2.2, 3.2.3 | MISSING_ECS_SERVICE | the same |
| 4.1.1, 4.1.2, 4.1.3 | WRONG_IMAGE_NAME | the same |
| 4.2.1 | SAME_INITIAL_VALUES: back from nginx to busybox | response code |
| 4.2.2, 4.2.3 | | image and tags in BEFORE |
| 4.2.4, 4.2.5 | | image and tags in AFTER |
| 4.3.1 | MULTIPLE_TAGS | response code |
| 4.3.2 | | image in AFTER |
| 4.3.3, 4.3.4 | | first and second tag in AFTER |

Where the first version expected `Exception` as errorType, the code of the error stands; its texts stand letter for letter, up to
their placeholder. The response code is that of the Lambda API, 200 for a function's error too.

What is checked beyond them is in the classes `More…`, without numbers: whatever one of them changes, the service has its initial
image and tags again before the next.

It needs the sample cluster and service (`make deploy-ecs-cluster deploy-ecs-service`) in the function's own account and
region, `ECS_UPDATER_FUNCTION`, `ECS_UPDATER_HISTORY_FUNCTION`, and credentials that may invoke the two and read ECS.
"""

from __future__ import annotations

import json
import operator
import os
import unittest
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import boto3
from botocore.config import Config

EVENTS = Path(__file__).resolve().parents[1] / "events"
# A function may take its 300 seconds; and an event is sent once, whatever happens.
ONCE = Config(read_timeout=330, retries={"total_max_attempts": 1})

CLUSTER, SERVICE = "ECSCluster", "ecs-dummy-service"
INITIAL_IMAGE = "busybox"
INITIAL_TAGS = {"old-custom-tag-name": "old-custom-tag-value"}
KEYS = {
    "clusterArn",
    "serviceArn",
    "taskDefinitionName",
    "taskDefinitionFamily",
    "taskDefinitionArn",
    "serviceImage",
    "images",
    "serviceMemory",
    "tags",
    "updatedOn",
}


def event(name: str) -> bytes:
    """One of the eight events, byte for byte."""
    return (EVENTS / f"lambda-ecs-updater.testevent-{name}.json").read_bytes()


def base(**members: Any) -> bytes:
    """The base event with members replaced; None takes one out."""
    document = {**json.loads(event("base")), **members}
    return json.dumps({name: value for name, value in document.items() if value is not None}).encode()


def own(tags: list[dict[str, str]]) -> dict[str, str]:
    """Tags without those of AWS itself, such as CloudFormation's."""
    return {tag["key"]: tag["value"] for tag in tags if not tag["key"].lower().startswith("aws:")}


@dataclass
class Answer:
    """What the function gave back."""

    status: int
    payload: dict[str, Any]
    failed: bool

    def at(self, *path: str) -> Any:
        """What stands there in the payload; None where nothing does."""
        found: Any = self.payload
        for name in path:
            found = found.get(name) if isinstance(found, dict) else None
        return found

    @property
    def body(self) -> dict[str, Any]:
        """The response's body; fails where there is an error instead."""
        assert not self.failed, self.payload
        return dict(self.payload["body"])

    @property
    def code(self) -> str | None:
        """The error's code."""
        return self.payload.get("errorType")

    @property
    def text(self) -> str:
        """The error's text."""
        return str(self.payload.get("errorMessage"))


class Deployed(unittest.TestCase):
    """The deployed function, and the sample service as ECS has it."""

    functions: ClassVar[Any]
    ecs: ClassVar[Any]

    @classmethod
    def setUpClass(cls) -> None:
        # boto3 itself looks at AWS_DEFAULT_REGION alone.
        session = boto3.session.Session(region_name=os.environ.get("AWS_REGION"))
        cls.functions, cls.ecs = session.client("lambda", config=ONCE), session.client("ecs")

    @classmethod
    def set_initial_values(cls) -> None:
        """Gives the service the image and the tags that it began with."""
        cls.send(event("SAME_INITIAL_VALUES"))
        assert cls.running() == (INITIAL_IMAGE, INITIAL_TAGS), "the sample service does not have its initial values"

    @classmethod
    def send(cls, payload: bytes, function: str = "ECS_UPDATER_FUNCTION") -> Answer:
        """Sends an event through the Lambda API."""
        answer = cls.functions.invoke(FunctionName=os.environ[function], Payload=payload)
        return Answer(answer["StatusCode"], json.loads(answer["Payload"].read()), "FunctionError" in answer)

    @classmethod
    def described(cls) -> dict[str, Any]:
        """The sample service as ECS has it."""
        return dict(cls.ecs.describe_services(cluster=CLUSTER, services=[SERVICE], include=["TAGS"])["services"][0])

    @classmethod
    def definition(cls) -> dict[str, Any]:
        """The task definition that the service has."""
        found = cls.ecs.describe_task_definition(taskDefinition=cls.described()["taskDefinition"])
        return dict(found["taskDefinition"])

    @classmethod
    def running(cls) -> tuple[str, dict[str, str]]:
        """The image and the tags that the service has."""
        return cls.definition()["containerDefinitions"][0]["image"], own(cls.described().get("tags", []))


# ---- the 29 checks ---------------------------------------------------------------------------------------------------


class Check(Deployed):
    """A case: one event, sent once, and the checks of its answer."""

    case: ClassVar[str]
    answer: ClassVar[Answer]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.before()
        cls.answer = cls.send(event(cls.case))

    @classmethod
    def before(cls) -> None:
        """What comes before the event: nothing, but in the first case."""

    def check(self, found: Any, expected: Any, is_: Callable[[Any, Any], bool] = operator.eq) -> None:
        """Fails with the number that the test's name begins with."""
        number = ".".join(self.id().rpartition(".test_")[2].split("_")[:3])
        if not is_(found, expected):
            self.fail(f"[FAILED CHECK {number}] {self.case}: {found!r}, and not {expected!r}; answer: {self.answer}")

    def check_image(self, when: str, image: str) -> None:
        """The image in BEFORE or AFTER."""
        self.check(self.answer.at("body", when, "serviceImage"), image)

    def check_tags(self, when: str, tags: dict[str, str]) -> None:
        """The tags in BEFORE or AFTER: these, and no others but AWS's own."""
        self.check(own(self.answer.at("body", when, "tags") or []), tags)


class Check_1_1_RegularCase(Check):
    """The image becomes nginx, and the service has another tag."""

    case = "base"

    @classmethod
    def before(cls) -> None:
        cls.set_initial_values()

    def test_1_1_1_response_code(self) -> None:
        self.check(self.answer.status, 200)

    def test_1_1_2_image_before(self) -> None:
        self.check_image("BEFORE", INITIAL_IMAGE)

    def test_1_1_3_tags_before(self) -> None:
        self.check_tags("BEFORE", INITIAL_TAGS)

    def test_1_1_4_image_after(self) -> None:
        self.check_image("AFTER", "nginx")

    def test_1_1_5_tags_after(self) -> None:
        self.check_tags("AFTER", {"updated-tag-name": "updated-tag-value"})


class Check_2_1_MissingJsonField(Check):
    """The event has no image."""

    case = "MISSING_JSON_FIELD"

    def test_2_1_1_response_code(self) -> None:
        self.check(self.answer.status, 200)

    def test_2_1_2_error_type(self) -> None:
        self.check(self.answer.code, "JsonValidation")

    def test_2_1_3_error_message(self) -> None:
        self.check(self.answer.text, "[ERROR][json_validation] wrong input event format: ", str.startswith)


class Check_2_2_WrongJsonFormat(Check):
    """The image is an object."""

    case = "WRONG_JSON_FORMAT"

    def test_2_2_1_response_code(self) -> None:
        self.check(self.answer.status, 200)

    def test_2_2_2_error_type(self) -> None:
        self.check(self.answer.code, "JsonValidation")

    def test_2_2_3_error_message(self) -> None:
        self.check(self.answer.text, "[ERROR][json_validation] wrong input event format: ", str.startswith)


class Check_3_1_MissingCluster(Check):
    """A cluster that is not there."""

    case = "MISSING_ECS_CLUSTER"

    def test_3_1_1_response_code(self) -> None:
        self.check(self.answer.status, 200)

    def test_3_1_2_error_type(self) -> None:
        self.check(self.answer.code, "ClusterNotFound")

    def test_3_1_3_error_message(self) -> None:
        text = "[ERROR][ecs_service_read] ecs_cluster_name ProductionFAKE not found"
        self.check(self.answer.text, text, str.startswith)


class Check_3_2_MissingService(Check):
    """A service that is not there."""

    case = "MISSING_ECS_SERVICE"

    def test_3_2_1_response_code(self) -> None:
        self.check(self.answer.status, 200)

    def test_3_2_2_error_type(self) -> None:
        self.check(self.answer.code, "ServiceNotFound")

    def test_3_2_3_error_message(self) -> None:
        text = "[ERROR][ecs_service_read] ecs_service_name ecs-dummy-serviceFAKE not found"
        self.check(self.answer.text, text, str.startswith)


class Check_4_1_WrongImageName(Check):
    """A text that is no image reference."""

    case = "WRONG_IMAGE_NAME"

    def test_4_1_1_response_code(self) -> None:
        self.check(self.answer.status, 200)

    def test_4_1_2_error_type(self) -> None:
        self.check(self.answer.code, "InvalidImage")

    def test_4_1_3_error_message(self) -> None:
        text = "[ERROR][ecs_service_update] new task_definition could not be created "
        self.check(self.answer.text, text, str.startswith)


class Check_4_2_SameInitialValues(Check):
    """Back to the values that the service began with; none of the refused cases has changed what the first one set."""

    case = "SAME_INITIAL_VALUES"

    def test_4_2_1_response_code(self) -> None:
        self.check(self.answer.status, 200)

    def test_4_2_2_image_before(self) -> None:
        self.check_image("BEFORE", "nginx")

    def test_4_2_3_tags_before(self) -> None:
        self.check_tags("BEFORE", {"updated-tag-name": "updated-tag-value"})

    def test_4_2_4_image_after(self) -> None:
        self.check_image("AFTER", INITIAL_IMAGE)

    def test_4_2_5_tags_after(self) -> None:
        self.check_tags("AFTER", INITIAL_TAGS)


class Check_4_3_MultipleTags(Check):
    """Several tags at once."""

    case = "MULTIPLE_TAGS"

    def test_4_3_1_response_code(self) -> None:
        self.check(self.answer.status, 200)

    def test_4_3_2_image_after(self) -> None:
        self.check_image("AFTER", "nginx")

    def check_tag(self, number: int) -> None:
        """One of the two tags. ECS promises no order of tags, so that none is asked for."""
        name, value = f"updated-tag-name-{number}", f"updated-tag-value-{number}"
        self.check((name, own(self.answer.at("body", "AFTER", "tags") or []).get(name)), (name, value))

    def test_4_3_3_first_tag_after(self) -> None:
        self.check_tag(1)

    def test_4_3_4_second_tag_after(self) -> None:
        self.check_tag(2)


# ---- what is checked beyond them -------------------------------------------------------------------------------------


class More(Deployed):
    """The service as it was at first, and what the function did to it."""

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.set_initial_values()

    @classmethod
    def tearDownClass(cls) -> None:
        cls.send(event("SAME_INITIAL_VALUES"))

    def refused(self, answer: Answer, code: str, text: str) -> None:
        """The answer is this error, its text begins so, and the service is as it was."""
        self.assertTrue(answer.failed, answer.payload)
        self.assertEqual(answer.code, code)
        self.assertTrue(answer.text.startswith(text), answer.text)
        self.assertEqual(self.running(), (INITIAL_IMAGE, INITIAL_TAGS))


class MoreMissingFields(More):
    """An event that lacks a field is refused, and what is missing is named."""

    text = "[ERROR][json_validation] wrong input event format: "

    def test_missing_cluster_name(self) -> None:
        answer = self.send(base(ecs_cluster_name=None))
        self.refused(answer, "JsonValidation", self.text)
        self.assertIn('"ecs_cluster_name" is a required property', answer.text)

    def test_missing_service_name(self) -> None:
        answer = self.send(base(ecs_service_name=None))
        self.refused(answer, "JsonValidation", self.text)
        self.assertIn('"ecs_service_name" is a required property', answer.text)

    def test_missing_image_name(self) -> None:
        answer = self.send(event("MISSING_JSON_FIELD"))
        self.refused(answer, "JsonValidation", self.text)
        self.assertIn('"ecs_image_name" is a required property', answer.text)

    def test_the_text_says_what_is_needed(self) -> None:
        answer = self.send(event("MISSING_JSON_FIELD"))
        needed = answer.text.partition("\n[ERROR][json_validation] Needed: ")[2]
        for field in ("ecs_cluster_name", "ecs_service_name", "ecs_image_name"):
            self.assertIn(field, needed)


class MoreWrongFormat(More):
    """A field of the wrong format is refused, with its place."""

    text = "[ERROR][json_validation] wrong input event format: "

    def test_cluster_name_is_no_text(self) -> None:
        answer = self.send(base(ecs_cluster_name=1))
        self.refused(answer, "JsonValidation", self.text)
        self.assertIn("/ecs_cluster_name", answer.text)

    def test_service_name_is_no_text(self) -> None:
        answer = self.send(base(ecs_service_name=["ecs-dummy-service"]))
        self.refused(answer, "JsonValidation", self.text)
        self.assertIn("/ecs_service_name", answer.text)

    def test_image_name_is_an_object(self) -> None:
        answer = self.send(event("WRONG_JSON_FORMAT"))
        self.refused(answer, "JsonValidation", self.text)
        self.assertIn("/ecs_image_name", answer.text)

    def test_tags_are_a_text(self) -> None:
        answer = self.send(base(ecs_tag="updated-tag-name"))
        self.refused(answer, "JsonValidation", self.text)
        self.assertIn("/ecs_tag", answer.text)


class MoreNoEvent(More):
    """What is no event is refused in the same words."""

    text = "[ERROR][json_validation] wrong input event format: "

    def test_an_empty_object(self) -> None:
        self.refused(self.send(b"{}"), "JsonValidation", self.text)

    def test_a_list(self) -> None:
        self.refused(self.send(b"[]"), "JsonValidation", self.text)

    def test_null(self) -> None:
        self.refused(self.send(b"null"), "JsonValidation", self.text)

    def test_an_unknown_field(self) -> None:
        answer = self.send(base(ecs_imagename="nginx"))
        self.refused(answer, "JsonValidation", self.text)
        self.assertIn("ecs_imagename", answer.text)


class MoreMissingCluster(More):
    """A cluster that is not there."""

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.answer = cls.send(event("MISSING_ECS_CLUSTER"))

    answer: ClassVar[Answer]

    def test_it_is_an_error(self) -> None:
        self.assertTrue(self.answer.failed, self.answer.payload)

    def test_nothing_changed(self) -> None:
        self.assertEqual(self.running(), (INITIAL_IMAGE, INITIAL_TAGS))


class MoreMissingService(More):
    """A service that is not there."""

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.answer = cls.send(event("MISSING_ECS_SERVICE"))

    answer: ClassVar[Answer]

    def test_it_is_an_error(self) -> None:
        self.assertTrue(self.answer.failed, self.answer.payload)

    def test_nothing_changed(self) -> None:
        self.assertEqual(self.running(), (INITIAL_IMAGE, INITIAL_TAGS))


class MoreBefore(More):
    """BEFORE says what ECS said before the change."""

    before: ClassVar[dict[str, Any]]
    service: ClassVar[dict[str, Any]]
    task_definition: ClassVar[dict[str, Any]]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.service, cls.task_definition = cls.described(), cls.definition()
        cls.before = cls.send(event("base")).body["BEFORE"]

    def test_cluster_and_service(self) -> None:
        self.assertEqual(self.before["clusterArn"], self.service["clusterArn"])
        self.assertEqual(self.before["serviceArn"], self.service["serviceArn"])

    def test_task_definition(self) -> None:
        self.assertEqual(self.before["taskDefinitionArn"], self.service["taskDefinition"])
        self.assertEqual(self.before["taskDefinitionFamily"], self.task_definition["family"])
        self.assertEqual(self.before["taskDefinitionName"], self.task_definition["containerDefinitions"][0]["name"])

    def test_image_and_memory(self) -> None:
        self.assertEqual(self.before["serviceImage"], INITIAL_IMAGE)
        self.assertEqual(self.before["serviceMemory"], self.task_definition["containerDefinitions"][0]["memory"])

    def test_tags(self) -> None:
        self.assertEqual(own(self.before["tags"]), INITIAL_TAGS)


class MoreWrongImage(More):
    """A text that is no image reference."""

    answer: ClassVar[Answer]
    revision: ClassVar[str]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.revision = cls.described()["taskDefinition"]
        cls.answer = cls.send(event("WRONG_IMAGE_NAME"))

    def test_no_new_task_definition(self) -> None:
        self.assertEqual(self.described()["taskDefinition"], self.revision)

    def test_image_and_tags_stay(self) -> None:
        self.assertEqual(self.running(), (INITIAL_IMAGE, INITIAL_TAGS))


class MoreImageAndTag(More):
    """A new image and a new tag."""

    payload: ClassVar[dict[str, Any]]
    after: ClassVar[dict[str, Any]]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        answer = cls.send(event("base"))
        cls.payload, cls.after = answer.payload, answer.body["AFTER"]

    def test_status_code(self) -> None:
        self.assertEqual(self.payload["statusCode"], 200)

    def test_the_service_has_them(self) -> None:
        self.assertEqual(self.running(), ("nginx", {"updated-tag-name": "updated-tag-value"}))


class MoreMultipleTags(More):
    """Several tags at once."""

    tags = {"updated-tag-name-1": "updated-tag-value-1", "updated-tag-name-2": "updated-tag-value-2"}
    payload: ClassVar[dict[str, Any]]
    after: ClassVar[dict[str, Any]]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        answer = cls.send(event("MULTIPLE_TAGS"))
        cls.payload, cls.after = answer.payload, answer.body["AFTER"]

    def test_status_code(self) -> None:
        self.assertEqual(self.payload["statusCode"], 200)

    def test_all_of_them_in_the_answer(self) -> None:
        self.assertEqual(own(self.after["tags"]), self.tags)

    def test_the_old_one_is_gone(self) -> None:
        self.assertNotIn("old-custom-tag-name", self.running()[1])

    def test_the_service_has_them(self) -> None:
        self.assertEqual(self.running(), ("nginx", self.tags))


class MoreSameValues(More):
    """The values that the service has already."""

    answer: ClassVar[Answer]
    service: ClassVar[dict[str, Any]]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.service = cls.described()
        cls.answer = cls.send(event("SAME_INITIAL_VALUES"))

    def test_status_code(self) -> None:
        self.assertEqual(self.answer.payload.get("statusCode"), 200)
        self.assertEqual(self.answer.body["status"], "UNCHANGED")

    def test_before_equals_after(self) -> None:
        self.assertEqual(self.answer.body["BEFORE"], self.answer.body["AFTER"])

    def test_no_new_task_definition(self) -> None:
        self.assertEqual(self.described()["taskDefinition"], self.service["taskDefinition"])

    def test_no_deployment(self) -> None:
        (was,), (now,) = (
            [one["id"] for one in service["deployments"] if one["status"] == "PRIMARY"]
            for service in (self.service, self.described())
        )
        self.assertEqual(was, now)


class MoreResponse(More):
    """The shape of the response."""

    body: ClassVar[dict[str, Any]]
    definition_before: ClassVar[dict[str, Any]]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.definition_before = cls.definition()
        cls.body = cls.send(event("base")).body

    def test_keys_of_before(self) -> None:
        self.assertEqual(set(self.body["BEFORE"]), KEYS)

    def test_keys_of_after(self) -> None:
        self.assertEqual(set(self.body["AFTER"]), KEYS)

    def test_a_new_revision_of_the_same_family(self) -> None:
        before, after = self.body["BEFORE"], self.body["AFTER"]
        self.assertEqual(before["taskDefinitionFamily"], after["taskDefinitionFamily"])
        self.assertNotEqual(before["taskDefinitionArn"], after["taskDefinitionArn"])

    def test_nothing_but_the_image_differs_in_it(self) -> None:
        (was,), (now,) = (
            definition["containerDefinitions"] for definition in (self.definition_before, self.definition())
        )
        self.assertEqual({**was, "image": "nginx"}, now)


class MoreAfterwards(More):
    """What stands afterwards, in ECS and in the history."""

    changed: ClassVar[dict[str, Any]]
    back: ClassVar[dict[str, Any]]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.changed = cls.send(event("base")).body
        cls.back = cls.send(event("SAME_INITIAL_VALUES")).body

    def ask(self, **members: Any) -> dict[str, Any]:
        """The history function's answer about the sample service."""
        names = {name: self.changed[name] for name in ("account_id", "region", "ecs_cluster_name", "ecs_service_name")}
        return self.send(json.dumps({**names, **members}).encode(), "ECS_UPDATER_HISTORY_FUNCTION").body

    def test_the_initial_values_can_be_set_again(self) -> None:
        self.assertEqual(self.back["status"], "APPLIED")
        self.assertEqual(self.running(), (INITIAL_IMAGE, INITIAL_TAGS))

    def test_before_is_what_after_was(self) -> None:
        for key in ("taskDefinitionArn", "serviceImage", "tags"):
            self.assertEqual(self.back["BEFORE"][key], self.changed["AFTER"][key])

    def test_the_history_has_both_changes(self) -> None:
        changes = self.ask(limit=2, order="newest_first")["changes"]
        expected = [self.back["change_id"], self.changed["change_id"]]
        self.assertEqual([change["change_id"] for change in changes], expected)

    def test_the_history_is_whole(self) -> None:
        self.assertTrue(self.ask(verify=True)["ok"])


if __name__ == "__main__":
    unittest.main()
