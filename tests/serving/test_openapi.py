"""The service answers as its own OpenAPI says: requests made from it, right ones and wrong ones, by schemathesis.

That a picture of the right size is a picture cannot be said in a schema, so a request that fits it may be refused.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import jsonschema_rs

from t2d_runtime import Segmenter
from t2d_runtime.serving.answer_schemas import RESULT
from t2d_runtime.serving.limits import Limits
from t2d_runtime.serving.live_source import LiveSource
from tests.conftest import ROOT

from .conftest import TIMEOUT_S, Running, Serve


def test_a_short_run_of_schemathesis(server: Running, tmp_path: Path) -> None:
    """The full one: `schemathesis run http://localhost:8000/openapi.json --exclude-checks positive_data_acceptance`."""
    options = ["--exclude-checks", "positive_data_acceptance", "--max-examples", "12", "--seed", "1", "--no-color"]
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}openapi.json", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-6000:]
    assert int(re.findall(r"(\d+) generated", done.stdout)[-1]) > 50


def strict(schema: Any) -> Any:
    """The schema, with every field an error that it does not describe."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: strict(value) for name, value in schema.items()}
    return {**found, "additionalProperties": False} if "properties" in schema else found


def check(described: dict[str, Any], method: str, path: str, answer: httpx.Response) -> None:
    responses = described["paths"][path][method]["responses"]
    schema = responses[str(answer.status_code)]["content"]["application/json"]["schema"]
    jsonschema_rs.validator_for(strict(schema)).validate(answer.json())


def test_every_field_of_an_answer_is_described(serve: Serve, segmenter: Segmenter, clip: Path, photo: bytes) -> None:
    live = LiveSource.open(str(clip)), segmenter.encode_classes(["sky", "sea"])
    with serve(live=live) as running, httpx.Client(base_url=running.url, timeout=TIMEOUT_S) as client:
        described = client.get("/openapi.json").json()
        for path in ("/info", "/healthz", "/readyz", "/live/info"):
            check(described, "get", path, client.get(path))
        check(described, "put", "/live/words", client.put("/live/words", json={"classes": ["sky"], "refine": True}))
        kept = client.post("/images", files={"image": photo})
        check(described, "post", "/images", kept)
        words = {"classes": ["sky", "sea", "sand"], "background": True}
        for options in ({}, {"refine": True}, {"format": "rle", "confidence": True}, {"format": "polygons"}):
            answer = client.post(f"/images/{kept.json()['id']}/segment", json={**words, **options})
            assert answer.json()["origin"]["prompts"] == "subset"
            check(described, "post", "/segment", answer)
            check(described, "post", "/images/{image_id}/segment", answer)


def test_the_documents_example_is_what_is_described() -> None:
    (example,) = re.findall(r"```json\n(.*?)```", (ROOT / "docs" / "results.md").read_text(encoding="utf-8"), re.DOTALL)
    jsonschema_rs.validator_for(strict(RESULT)).validate(json.loads(example))


def test_the_description_has_the_servers_own_limits(serve: Serve) -> None:
    with serve(Limits(phrases=500, templates=7)) as running:
        described = httpx.get(f"{running.url}openapi.json", timeout=TIMEOUT_S).json()
    content = described["paths"]["/segment"]["post"]["requestBody"]["content"]
    properties = content["application/json"]["schema"]["properties"]
    _, names, synonyms = properties["classes"]["anyOf"]
    assert (names["maxItems"], synonyms["maxProperties"]) == (500, 500)
    assert properties["negatives"]["anyOf"][1]["maxItems"] == 500
    assert properties["prompts"]["anyOf"][1]["maxItems"] == 7
