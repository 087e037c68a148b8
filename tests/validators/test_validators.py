"""Each validator fails when it is fed a deliberate error, and says which. One that passes everything would look just like
one that found nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
VALIDATORS = ROOT / "infrastructure" / "validators"
RUST = ROOT / ".tools" / "rust" / "bin"
HUB = ROOT / "infrastructure" / "cloudformation" / "hub.yaml"
TARGET_ROLE = ROOT / "infrastructure" / "cloudformation" / "target-role.yaml"
UPDATER = ROOT / "policies" / "updater.json"
DENY = ROOT / "deny.toml"
RELEASE = ROOT / ".github" / "workflows" / "release.yml"
BOUNDARY = ROOT / "policies" / "target-boundary.json"
# For what hangs: in `.ci/run` a validator gives way to the builds beside it.
TIMEOUT = 1800

STATE_MACHINE = json.dumps(
    {"StartAt": "Wait", "States": {"Wait": {"Type": "Wait", "Seconds": 1, "Next": "Done"}, "Done": {"Type": "Succeed"}}}
)
API = json.dumps(
    {
        "openapi": "3.0.3",
        "info": {"title": "An API", "version": "1"},
        "paths": {"/a": {"get": {"responses": {"200": {"description": "Fine"}}}}},
    }
)
# Validator, name of the file, its text without the error, what stands there, the error instead, and what the validator says.
ERRORS = [
    ("cfn-lint", "hub.yaml", HUB, "!Ref StateTable", "!Ref NoSuchTable", "NoSuchTable"),
    ("cfn-lint", "hub.yaml", HUB, "Type: AWS::DynamoDB::Table", "Type: AWS::DynamoDB::Tabel", "Tabel"),
    ("sam", "hub.yaml", HUB, "!GetAtt HistoryRole.Arn", "!GetAtt HistoryRole.Name", "E1010"),
    ("sam", "hub.yaml", HUB, "Resources:\n", "Things:\n", "Things"),
    ("checkov", "target-role.yaml", TARGET_ROLE, '"Action": "ecs:RegisterTaskDefinition"', '"Action": "*"', "CKV_AWS_"),
    ("checkov", "hub.yaml", HUB, "PointInTimeRecoveryEnabled: true", "PointInTimeRecoveryEnabled: false", "CKV_AWS_28"),
    ("parliament", "updater.json", UPDATER, "dynamodb:PartiQLInsert", "dynamodb:PartiQLUpsert", "UNKNOWN_ACTION"),
    ("parliament", "updater.json", UPDATER, "__HISTORY_TABLE_ARN__", "arn:aws:s3:::bucket", "RESOURCE_MISMATCH"),
    ("parliament", "updater.json", UPDATER, "dynamodb:EnclosingOperation", "dynamodb:Operation", "UNKNOWN_CONDITION"),
    ("parliament", "large.json", UPDATER, "__HISTORY_TABLE_ARN__", f"arn:aws:{'x' * 10_240}", "AWS takes 10240"),
    # A suppression that nothing needs any more is a fault too.
    ("parliament", "target-boundary.json", BOUNDARY, '"iam:PassRole"', '"iam:ListRoles"', "no longer found"),
    ("asl", "waves.asl.json", STATE_MACHINE, '"Next": "Done"', '"Next": "Dome"', "MISSING_TRANSITION_TARGET"),
    ("asl", "waves.asl.json", STATE_MACHINE, '"Succeed"', '"Success"', "Done"),
    ("openapi", "openapi.yaml", API, '"description"', '"descriptoin"', "descriptoin"),
    ("openapi", "openapi.yaml", API, '"responses"', '"answers"', "answers"),
    ("workflows", "release.yml", RELEASE, "runs-on: ubuntu-24.04", "run-on: ubuntu-24.04", "run-on"),
    ("workflows", "release.yml", RELEASE, "    timeout-minutes: 10\n", "", "timeout-minutes"),
    ("workflows", "release.yml", RELEASE, "@bbbca2ddaa5d8feaa63e36b76fdaad77386f024f # v7.0.0", "@v7", "unpinned-uses"),
    ("workflows", "release.yml", RELEASE, 'create "$GITHUB_REF_NAME"', "create ${{ github.ref_name }}", "template-injection"),
    ("workflows", "release.yml", RELEASE, "permissions:\n  contents: read\n", "permissions: write-all\n", "excessive-permissions"),
    ("workflows", "release.yml", RELEASE, "          persist-credentials: false\n", "          fetch-depth: 1\n", "artipacked"),
    ("cargo-deny", "deny.toml", DENY, '"ISC",', "", "license is not explicitly allowed"),
    ("cargo-deny", "deny.toml", DENY, 'crate = "ring"', 'crate = "rustls"', "error[banned]"),
    ("cargo-deny", "deny.toml", DENY, "rust-lang/crates.io-index", "rust-lang/other-index", "error[source-not-allowed]"),
]

# What a validator has been seen to pass: it is asked once.
FINE: set[tuple[str, str]] = set()


def validate(validator: str, file: Path) -> subprocess.CompletedProcess[str]:
    """Runs a validator as `make lint` does, on one file."""
    if validator == "cfn-lint":
        command = [str(Path(sys.executable).parent / "cfn-lint"), str(file)]
    elif validator == "cargo-deny":
        command = [str(RUST / "cargo-deny"), "--locked", "--config", str(file), "check", "licenses", "bans", "sources"]
    else:
        command = [str(VALIDATORS / "run"), validator, str(file.parent if validator == "checkov" else file)]
    return subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=TIMEOUT, check=False, cwd=ROOT
    )


@pytest.mark.parametrize(
    ("validator", "name", "source", "right", "wrong", "says"),
    ERRORS,
    ids=[f"{validator}-{says.split()[0]}" for validator, *_, says in ERRORS],
)
def test_an_error_is_found(
    tmp_path: Path, validator: str, name: str, source: Path | str, right: str, wrong: str, says: str
) -> None:
    text = source.read_text() if isinstance(source, Path) else source
    assert right in text
    file = tmp_path / name
    if (validator, text) not in FINE:
        file.write_text(text)
        before = validate(validator, file)
        assert before.returncode == 0, before.stdout
        FINE.add((validator, text))
    file.write_text(text.replace(right, wrong))
    after = validate(validator, file)
    assert after.returncode != 0
    assert says in after.stdout


def test_a_crate_that_nothing_uses_is_found(tmp_path: Path) -> None:
    def write(path: str, text: str) -> None:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)

    package = '[package]\nname = "{}"\nversion = "1.0.0"\nedition = "2024"\n'
    write("used/Cargo.toml", package.format("used"))
    write("used/src/lib.rs", "pub struct Thing;\n")
    write("Cargo.toml", package.format("user") + '[dependencies]\nused = { path = "used" }\n')
    for source, says in [("pub use used::Thing;\n", "no issues found"), ("", "used")]:
        write("src/lib.rs", source)
        found = subprocess.run(
            [RUST / "cargo-shear", "--deny-warnings", tmp_path],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=TIMEOUT, check=False,
        )  # fmt: skip
        assert (found.returncode == 0) == bool(source), found.stdout
        assert says in found.stdout


def test_each_check_that_checkov_skips_would_fail(tmp_path: Path) -> None:
    """What is skipped and fails no longer must not stay skipped."""
    configuration = yaml.safe_load((VALIDATORS / "checkov.yaml").read_text())
    skipped = set(configuration.pop("skip-check"))
    everything = tmp_path / "checkov.yaml"
    everything.write_text(yaml.safe_dump({**configuration, "check": sorted(skipped), "output": ["json"]}))
    found = subprocess.run(
        [ROOT / ".tools/checkov/bin/checkov", "--config-file", everything, "--directory", ROOT / "infrastructure"],
        stdout=subprocess.PIPE, text=True, timeout=TIMEOUT, check=False,
    )
    reports = json.loads(found.stdout)
    reports = reports if isinstance(reports, list) else [reports]
    failed = {check["check_id"] for report in reports for check in report["results"]["failed_checks"]}
    assert failed == skipped
