"""The examples of a container and of a service: their commands, paths and addresses are the project's own."""

from __future__ import annotations

import json
import re
import shlex

from t2d_runtime.commands.command_line import build_parser
from t2d_runtime.serving.application import PROBES
from t2d_runtime.serving.limits import Limits
from tests.conftest import ROOT

FOLDER = ROOT / "examples" / "serve"


def check_command(words: list[str]) -> None:
    assert words[0].endswith("t2d")
    build_parser().parse_args(words[1:])


def test_the_container() -> None:
    text = (FOLDER / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    for line in re.findall(r"^COPY (.*)", text, re.MULTILINE):
        assert all((ROOT / name).exists() for name in line.split()[:-1]), line
    (entry,) = re.findall(r"^ENTRYPOINT (.*)", text, re.MULTILINE)
    check_command(json.loads(entry))
    (probe,) = re.findall(r"http://127\.0\.0\.1:8000(/\w+)", text)
    assert probe in PROBES
    assert re.findall(r"^USER (.*)", text, re.MULTILINE) == ["10001"]


def test_the_service() -> None:
    text = (FOLDER / "t2d-serve.service").read_text(encoding="utf-8")
    commands = re.findall(r"^(?:# )?ExecStart=(.*)", text, re.MULTILINE)
    assert len(commands) == 2
    for command in commands:
        check_command(shlex.split(command))
    (seconds,) = re.findall(r"^TimeoutStopSec=(\d+)", text, re.MULTILINE)
    assert int(seconds) > Limits().deadline_s
