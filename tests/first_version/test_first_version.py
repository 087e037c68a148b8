"""The first version's checks, over the deployed function: `make run-lambda-test-unittest`.

The numbers are kept as ids, from 1.1.1 to 4.3.4. What each of them checks is said here anew, by chapter, in the words of
this version:

| chapter | what | events of tests/events |
|---|---|---|
| 1.1 | an event that lacks a field | MISSING_JSON_FIELD |
| 1.2 | an event whose fields have the wrong format | WRONG_JSON_FORMAT |
| 1.3 | what is no event at all | |
| 2.1 | a cluster that is not there | MISSING_ECS_CLUSTER |
| 2.2 | a service that is not there | MISSING_ECS_SERVICE |
| 2.3 | what is read of a service (`BEFORE`) | base |
| 3.1 | an image that is none | WRONG_IMAGE_NAME |
| 3.2 | a new image and a new tag | base |
| 3.3 | several tags | MULTIPLE_TAGS |
| 4.1 | the values that the service has already | SAME_INITIAL_VALUES |
| 4.2 | the shape of the response | base |
| 4.3 | the state and the history afterwards | base, SAME_INITIAL_VALUES |

Where the first version expected `Exception`, the code of the error stands; its texts stand letter for letter, up to
their placeholder. Whatever a check changes, the service has its initial image and tags again before the next chapter.

It needs the sample cluster and service (`make deploy-ecs-cluster deploy-ecs-service`) in the function's own account and
region, `ECS_UPDATER_FUNCTION`, `ECS_UPDATER_HISTORY_FUNCTION`, and credentials that may invoke the two and read ECS.
"""

from __future__ import annotations

import json
import os
import unittest
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

    payload: dict[str, Any]
    failed: bool

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


class Check(unittest.TestCase):
    """A chapter: the service as it was at first, and what the function did to it."""

    functions: ClassVar[Any]
    ecs: ClassVar[Any]

    @classmethod
    def setUpClass(cls) -> None:
        # boto3 itself looks at AWS_DEFAULT_REGION alone.
        session = boto3.session.Session(region_name=os.environ.get("AWS_REGION"))
        cls.functions, cls.ecs = session.client("lambda", config=ONCE), session.client("ecs")
        cls.send(event("SAME_INITIAL_VALUES"))
        image, tags = cls.running()
        assert (image, tags) == (INITIAL_IMAGE, INITIAL_TAGS), "the sample service does not have its initial values"

    @classmethod
    def tearDownClass(cls) -> None:
        cls.send(event("SAME_INITIAL_VALUES"))

    @classmethod
    def send(cls, payload: bytes, function: str = "ECS_UPDATER_FUNCTION") -> Answer:
        """Sends an event through the Lambda API."""
        answer = cls.functions.invoke(FunctionName=os.environ[function], Payload=payload)
        return Answer(json.loads(answer["Payload"].read()), "FunctionError" in answer)

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

    def refused(self, answer: Answer, code: str, text: str) -> None:
        """The answer is this error, its text begins so, and the service is as it was."""
        self.assertTrue(answer.failed, answer.payload)
        self.assertEqual(answer.code, code)
        self.assertTrue(answer.text.startswith(text), answer.text)
        self.assertEqual(self.running(), (INITIAL_IMAGE, INITIAL_TAGS))


class Check_1_1_MissingFields(Check):
    """1.1: an event that lacks a field is refused, and what is missing is named."""

    text = "[ERROR][json_validation] wrong input event format: "

    def test_1_1_1_missing_cluster_name(self) -> None:
        answer = self.send(base(ecs_cluster_name=None))
        self.refused(answer, "JsonValidation", self.text)
        self.assertIn('"ecs_cluster_name" is a required property', answer.text)

    def test_1_1_2_missing_service_name(self) -> None:
        answer = self.send(base(ecs_service_name=None))
        self.refused(answer, "JsonValidation", self.text)
        self.assertIn('"ecs_service_name" is a required property', answer.text)

    def test_1_1_3_missing_image_name(self) -> None:
        answer = self.send(event("MISSING_JSON_FIELD"))
        self.refused(answer, "JsonValidation", self.text)
        self.assertIn('"ecs_image_name" is a required property', answer.text)

    def test_1_1_4_the_text_says_what_is_needed(self) -> None:
        answer = self.send(event("MISSING_JSON_FIELD"))
        needed = answer.text.partition("\n[ERROR][json_validation] Needed: ")[2]
        for field in ("ecs_cluster_name", "ecs_service_name", "ecs_image_name"):
            self.assertIn(field, needed)


class Check_1_2_WrongFormat(Check):
    """1.2: a field of the wrong format is refused, with its place."""

    text = "[ERROR][json_validation] wrong input event format: "

    def test_1_2_1_cluster_name_is_no_text(self) -> None:
        answer = self.send(base(ecs_cluster_name=1))
        self.refused(answer, "JsonValidation", self.text)
        self.assertIn("/ecs_cluster_name", answer.text)

    def test_1_2_2_service_name_is_no_text(self) -> None:
        answer = self.send(base(ecs_service_name=["ecs-dummy-service"]))
        self.refused(answer, "JsonValidation", self.text)
        self.assertIn("/ecs_service_name", answer.text)

    def test_1_2_3_image_name_is_an_object(self) -> None:
        answer = self.send(event("WRONG_JSON_FORMAT"))
        self.refused(answer, "JsonValidation", self.text)
        self.assertIn("/ecs_image_name", answer.text)

    def test_1_2_4_tags_are_a_text(self) -> None:
        answer = self.send(base(ecs_tag="updated-tag-name"))
        self.refused(answer, "JsonValidation", self.text)
        self.assertIn("/ecs_tag", answer.text)


class Check_1_3_NoEvent(Check):
    """1.3: what is no event is refused in the same words."""

    text = "[ERROR][json_validation] wrong input event format: "

    def test_1_3_1_an_empty_object(self) -> None:
        self.refused(self.send(b"{}"), "JsonValidation", self.text)

    def test_1_3_2_a_list(self) -> None:
        self.refused(self.send(b"[]"), "JsonValidation", self.text)

    def test_1_3_3_null(self) -> None:
        self.refused(self.send(b"null"), "JsonValidation", self.text)

    def test_1_3_4_an_unknown_field(self) -> None:
        answer = self.send(base(ecs_imagename="nginx"))
        self.refused(answer, "JsonValidation", self.text)
        self.assertIn("ecs_imagename", answer.text)


class Check_2_1_MissingCluster(Check):
    """2.1: a cluster that is not there."""

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.answer = cls.send(event("MISSING_ECS_CLUSTER"))

    answer: ClassVar[Answer]

    def test_2_1_1_it_is_an_error(self) -> None:
        self.assertTrue(self.answer.failed, self.answer.payload)

    def test_2_1_2_its_code(self) -> None:
        self.assertEqual(self.answer.code, "ClusterNotFound")

    def test_2_1_3_its_text(self) -> None:
        text = "[ERROR][ecs_service_read] ecs_cluster_name ProductionFAKE not found"
        self.assertTrue(self.answer.text.startswith(text), self.answer.text)

    def test_2_1_4_nothing_changed(self) -> None:
        self.assertEqual(self.running(), (INITIAL_IMAGE, INITIAL_TAGS))


class Check_2_2_MissingService(Check):
    """2.2: a service that is not there."""

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.answer = cls.send(event("MISSING_ECS_SERVICE"))

    answer: ClassVar[Answer]

    def test_2_2_1_it_is_an_error(self) -> None:
        self.assertTrue(self.answer.failed, self.answer.payload)

    def test_2_2_2_its_code(self) -> None:
        self.assertEqual(self.answer.code, "ServiceNotFound")

    def test_2_2_3_its_text(self) -> None:
        text = "[ERROR][ecs_service_read] ecs_service_name ecs-dummy-serviceFAKE not found"
        self.assertTrue(self.answer.text.startswith(text), self.answer.text)

    def test_2_2_4_nothing_changed(self) -> None:
        self.assertEqual(self.running(), (INITIAL_IMAGE, INITIAL_TAGS))


class Check_2_3_Before(Check):
    """2.3: BEFORE says what ECS said before the change."""

    before: ClassVar[dict[str, Any]]
    service: ClassVar[dict[str, Any]]
    task_definition: ClassVar[dict[str, Any]]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.service, cls.task_definition = cls.described(), cls.definition()
        cls.before = cls.send(event("base")).body["BEFORE"]

    def test_2_3_1_cluster_and_service(self) -> None:
        self.assertEqual(self.before["clusterArn"], self.service["clusterArn"])
        self.assertEqual(self.before["serviceArn"], self.service["serviceArn"])

    def test_2_3_2_task_definition(self) -> None:
        self.assertEqual(self.before["taskDefinitionArn"], self.service["taskDefinition"])
        self.assertEqual(self.before["taskDefinitionFamily"], self.task_definition["family"])
        self.assertEqual(self.before["taskDefinitionName"], self.task_definition["containerDefinitions"][0]["name"])

    def test_2_3_3_image_and_memory(self) -> None:
        self.assertEqual(self.before["serviceImage"], INITIAL_IMAGE)
        self.assertEqual(self.before["serviceMemory"], self.task_definition["containerDefinitions"][0]["memory"])

    def test_2_3_4_tags(self) -> None:
        self.assertEqual(own(self.before["tags"]), INITIAL_TAGS)


class Check_3_1_WrongImage(Check):
    """3.1: a text that is no image reference."""

    answer: ClassVar[Answer]
    revision: ClassVar[str]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.revision = cls.described()["taskDefinition"]
        cls.answer = cls.send(event("WRONG_IMAGE_NAME"))

    def test_3_1_1_its_code(self) -> None:
        self.assertEqual(self.answer.code, "InvalidImage")

    def test_3_1_2_its_text(self) -> None:
        text = "[ERROR][ecs_service_update] new task_definition could not be created "
        self.assertTrue(self.answer.text.startswith(text), self.answer.text)

    def test_3_1_3_no_new_task_definition(self) -> None:
        self.assertEqual(self.described()["taskDefinition"], self.revision)

    def test_3_1_4_image_and_tags_stay(self) -> None:
        self.assertEqual(self.running(), (INITIAL_IMAGE, INITIAL_TAGS))


class Check_3_2_ImageAndTag(Check):
    """3.2: a new image and a new tag."""

    payload: ClassVar[dict[str, Any]]
    after: ClassVar[dict[str, Any]]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        answer = cls.send(event("base"))
        cls.payload, cls.after = answer.payload, answer.body["AFTER"]

    def test_3_2_1_status_code(self) -> None:
        self.assertEqual(self.payload["statusCode"], 200)

    def test_3_2_2_image_in_the_answer(self) -> None:
        self.assertEqual(self.after["serviceImage"], "nginx")

    def test_3_2_3_tags_in_the_answer(self) -> None:
        self.assertEqual(own(self.after["tags"]), {"updated-tag-name": "updated-tag-value"})

    def test_3_2_4_the_service_has_them(self) -> None:
        self.assertEqual(self.running(), ("nginx", {"updated-tag-name": "updated-tag-value"}))


class Check_3_3_MultipleTags(Check):
    """3.3: several tags at once."""

    tags = {"updated-tag-name-1": "updated-tag-value-1", "updated-tag-name-2": "updated-tag-value-2"}
    payload: ClassVar[dict[str, Any]]
    after: ClassVar[dict[str, Any]]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        answer = cls.send(event("MULTIPLE_TAGS"))
        cls.payload, cls.after = answer.payload, answer.body["AFTER"]

    def test_3_3_1_status_code(self) -> None:
        self.assertEqual(self.payload["statusCode"], 200)

    def test_3_3_2_all_of_them_in_the_answer(self) -> None:
        self.assertEqual(own(self.after["tags"]), self.tags)

    def test_3_3_3_the_old_one_is_gone(self) -> None:
        self.assertNotIn("old-custom-tag-name", self.running()[1])

    def test_3_3_4_the_service_has_them(self) -> None:
        self.assertEqual(self.running(), ("nginx", self.tags))


class Check_4_1_SameValues(Check):
    """4.1: the values that the service has already."""

    answer: ClassVar[Answer]
    service: ClassVar[dict[str, Any]]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.service = cls.described()
        cls.answer = cls.send(event("SAME_INITIAL_VALUES"))

    def test_4_1_1_status_code(self) -> None:
        self.assertEqual(self.answer.payload.get("statusCode"), 200)
        self.assertEqual(self.answer.body["status"], "UNCHANGED")

    def test_4_1_2_before_equals_after(self) -> None:
        self.assertEqual(self.answer.body["BEFORE"], self.answer.body["AFTER"])

    def test_4_1_3_no_new_task_definition(self) -> None:
        self.assertEqual(self.described()["taskDefinition"], self.service["taskDefinition"])

    def test_4_1_4_no_deployment(self) -> None:
        (was,), (now,) = (
            [one["id"] for one in service["deployments"] if one["status"] == "PRIMARY"]
            for service in (self.service, self.described())
        )
        self.assertEqual(was, now)


class Check_4_2_Response(Check):
    """4.2: the shape of the response."""

    body: ClassVar[dict[str, Any]]
    definition_before: ClassVar[dict[str, Any]]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.definition_before = cls.definition()
        cls.body = cls.send(event("base")).body

    def test_4_2_1_keys_of_before(self) -> None:
        self.assertEqual(set(self.body["BEFORE"]), KEYS)

    def test_4_2_2_keys_of_after(self) -> None:
        self.assertEqual(set(self.body["AFTER"]), KEYS)

    def test_4_2_3_a_new_revision_of_the_same_family(self) -> None:
        before, after = self.body["BEFORE"], self.body["AFTER"]
        self.assertEqual(before["taskDefinitionFamily"], after["taskDefinitionFamily"])
        self.assertNotEqual(before["taskDefinitionArn"], after["taskDefinitionArn"])

    def test_4_2_4_nothing_but_the_image_differs_in_it(self) -> None:
        (was,), (now,) = (
            definition["containerDefinitions"] for definition in (self.definition_before, self.definition())
        )
        self.assertEqual({**was, "image": "nginx"}, now)


class Check_4_3_Afterwards(Check):
    """4.3: what stands afterwards, in ECS and in the history."""

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

    def test_4_3_1_the_initial_values_can_be_set_again(self) -> None:
        self.assertEqual(self.back["status"], "APPLIED")
        self.assertEqual(self.running(), (INITIAL_IMAGE, INITIAL_TAGS))

    def test_4_3_2_before_is_what_after_was(self) -> None:
        for key in ("taskDefinitionArn", "serviceImage", "tags"):
            self.assertEqual(self.back["BEFORE"][key], self.changed["AFTER"][key])

    def test_4_3_3_the_history_has_both_changes(self) -> None:
        changes = self.ask(limit=2, order="newest_first")["changes"]
        expected = [self.back["change_id"], self.changed["change_id"]]
        self.assertEqual([change["change_id"] for change in changes], expected)

    def test_4_3_4_the_history_is_whole(self) -> None:
        self.assertTrue(self.ask(verify=True)["ok"])


if __name__ == "__main__":
    unittest.main()
