#!/usr/bin/env python3
"""Terraform on infrastructure/terraform, where this machine has it.

    tools/deploy/terraform.py lint              formatting, validity and tests (make lint-terraform)
    tools/deploy/terraform.py readme            the tables of variables and outputs in the modules' READMEs (make render)
    tools/deploy/terraform.py apply [ARGUMENT…]    as `terraform apply`, without asking; so do `destroy`, `plan`, `output`

Neither Terraform nor the AWS provider is installed here. The provider is taken from the folder that TF_PLUGIN_DIR names, or from
where people keep one; else Terraform gets it from where its own configuration says. Without them `lint` says so and
succeeds: what was not checked is listed in the summary of `.ci/run`.

Downloads and state (trial.tfstate) go to TF_DATA_DIR, by default target/terraform. Region, credentials and endpoint (for a local AWS)
come from the environment: AWS_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DIRECTORY = ROOT / "infrastructure" / "terraform"
NEEDED = (1, 9)  # validations that look at several variables
STATE = "trial.tfstate"

# Terraform's own implied mirrors, and what people put below /opt: folders of HOST/NAMESPACE/TYPE/VERSION.
PLUGIN_FOLDERS = ("~/.terraform.d/plugins", "/usr/local/share/terraform/plugins", "/usr/share/terraform/plugins", "/opt/*")


class Missing(Exception):
    """This machine has no Terraform, or no provider for it. Says which."""


class Terraform:
    """Terraform, initialized on infrastructure/terraform."""

    def __init__(self, data: Path | None = None) -> None:
        """Finds and initializes it; `data` is where downloads and state go. Raises Missing, or RuntimeError."""
        configured = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target") / "terraform"
        self.data = (data or Path(os.environ.get("TF_DATA_DIR") or configured)).absolute()
        self.data.mkdir(parents=True, exist_ok=True)
        self._free_backend()
        executable = shutil.which("terraform")
        if not executable:
            raise Missing("terraform is not on this machine")
        self._executable = executable
        self._plugins = plugin_folder()
        self._environment = {
            **os.environ,
            "TF_DATA_DIR": str(self.data),
            "TF_IN_AUTOMATION": "1",
            "TF_INPUT": "0",
            "CHECKPOINT_DISABLE": "1",
            # Where there is no network, say so soon.
            "TF_REGISTRY_DISCOVERY_RETRY": "0",
            "TF_REGISTRY_CLIENT_TIMEOUT": "5",
        }
        # A folder of providers needs no configuration, and one that is named but not there is a warning each time.
        if self._plugins or not Path(os.environ.get("TF_CLI_CONFIG_FILE", "/")).exists():
            self._environment["TF_CLI_CONFIG_FILE"] = os.devnull
        version = json.loads(self.run("version", "-json", capture=True).stdout)["terraform_version"]
        if tuple(int(number) for number in version.split("-")[0].split(".")[:2]) < NEEDED:
            raise Missing(f"terraform {version} is older than {'.'.join(map(str, NEEDED))}")
        self._initialize()

    def _free_backend(self) -> None:
        """In this folder terraform.tfstate is Terraform's own, for its backend. Once the trial's state lay there, and no `init` was
        possible any more: it goes to its place."""
        taken = self.data / "terraform.tfstate"
        if taken.exists() and "resources" in json.loads(taken.read_text()):
            taken.rename(self.data / STATE)

    def _initialize(self) -> None:
        folder = [f"-plugin-dir={self._plugins}"] if self._plugins else []
        done = self.run("init", "-no-color", *folder, capture=True)
        if done.returncode == 0:
            return
        said = done.stdout + done.stderr
        if "provider packages" in said or "Failed to install provider" in said:
            raise Missing("terraform found no AWS provider: set TF_PLUGIN_DIR to a folder that has one")
        raise RuntimeError(f"terraform init failed:\n{said}")

    def run(
        self, *arguments: str, capture: bool = False, environment: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command in infrastructure/terraform; `environment` is added to this process's."""
        return subprocess.run(
            [self._executable, *arguments],
            cwd=DIRECTORY,
            env={**self._environment, **(environment or {})},
            text=True,
            capture_output=capture,
            check=False,
        )

    def options(self, command: str, state: Path | None = None) -> list[str]:
        """The options by which `command` does not ask, and keeps its state beside the downloads, or in `state`."""
        approve = ["-auto-approve"] if command in ("apply", "destroy") else []
        return [*approve, f"-state={state or self.data / STATE}"]


def plugin_folder() -> Path | None:
    """The folder that has the AWS provider, if it is in one of the usual places."""
    named = os.environ.get("TF_PLUGIN_DIR")
    candidates = [named] if named else PLUGIN_FOLDERS
    for candidate in candidates:
        pattern = Path(candidate).expanduser()
        for folder in sorted(Path(pattern.anchor).glob(str(pattern.relative_to(pattern.anchor)))):
            if any(folder.glob("*/hashicorp/aws/*")):
                return folder
    return None


def lint() -> int:
    """Formatting, validity, tests: 0 where all are well, and where there is nothing to check them with."""
    try:
        terraform = Terraform()
    except Missing as missing:
        print(f"skipped: lint-terraform: {missing}")
        return 0
    checks = (("fmt", "-check", "-diff", "-recursive"), ("validate",), ("test",))
    return max([terraform.run(check, "-no-color", *options).returncode for check, *options in checks])


def with_tables(text: str, module: Path) -> str:
    """A module's README with its variables and outputs written anew."""

    def blocks(kind: str) -> list[tuple[str, str]]:
        source = (module / f"{kind}s.tf").read_text()
        return re.findall(rf'^{kind} "(\w+)" {{\n(.*?)^}}$', source, re.MULTILINE | re.DOTALL)

    def attribute(body: str, name: str) -> str:
        found = re.search(rf"^  {name} += (.*)$", body, re.MULTILINE)
        return found[1] if found else ""

    def text_of(body: str) -> str:
        return str(json.loads(attribute(body, "description"))).replace("|", "\\|")

    lines = ["| input | type | default | |", "|---|---|---|---|"]
    for name, body in blocks("variable"):
        default = attribute(body, "default")
        lines.append(
            f"| `{name}` | `{attribute(body, 'type')}` | {f'`{default}`' if default else 'required'} | {text_of(body)} |"
        )
    lines += ["", "| output | |", "|---|---|"]
    lines += [f"| `{name}` | {text_of(body)} |" for name, body in blocks("output")]
    table = "\n".join(["<!-- begin tables -->", *lines, "<!-- end tables -->"])
    return re.sub(r"<!-- begin tables -->\n.*<!-- end tables -->", lambda _: table, text, flags=re.DOTALL)


def write_readmes() -> int:
    """Rewrites the READMEs that are not up to date."""
    for module in (DIRECTORY, *sorted((DIRECTORY / "modules").iterdir())):
        path = module / "README.md"
        text = path.read_text()
        if (fresh := with_tables(text, module)) != text:
            path.write_text(fresh)
            print(f"{path.relative_to(ROOT)} rewritten")
    return 0


def main(arguments: Sequence[str]) -> int:
    """Runs one command."""
    match arguments:
        case ["lint"]:
            return lint()
        case ["readme"]:
            return write_readmes()
        case [("apply" | "destroy" | "plan" | "output") as command, *rest]:
            try:
                terraform = Terraform()
            except Missing as missing:
                print(missing, file=sys.stderr)
                return 1
            return terraform.run(command, *terraform.options(command), *rest).returncode
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
