"""`t2d cluster` on this machine: rows equal one process's, whatever the pictures are in."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from t2d_runtime import Segmenter
from t2d_runtime.cli import main
from tests.conftest import ROOT

from .conftest import arguments_of, damage, expected_rows, files_of, row_of, rows_of, started, write_scenes


def test_rows_equal_one_process_and_a_second_run_does_nothing(
    exported_bundle: Path, segmenter: Segmenter, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In an environment with little more than a proxy, which Ray's processes must not use."""
    paths = write_scenes(tmp_path / "in", 24)
    damage(paths[5])
    output = tmp_path / "out"
    command = arguments_of(exported_bundle, [tmp_path / "in"], output, "--background", "--refine")
    bare = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "ALL_PROXY"), "http://127.0.0.1:9")
    bare |= {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "T2D_CACHE_DIR": str(tmp_path / "cache")}
    with started(*command, environment=bare) as run:
        status, out, err = run.end()
        assert run.processes() == {}
    assert status == 1, err
    assert err == f"{paths[5]} failed: {paths[5]} cannot be decoded, it may be truncated or damaged: " + (
        "image file is truncated\n"
    )
    engine, last = out.splitlines()
    assert engine.endswith("workers: 1, with 1 CPU thread each")
    assert last.startswith(f"{output}: 23 pictures segmented, 1 failed; 24 in this run in ")
    rows = rows_of(output)
    assert rows == expected_rows(segmenter, paths, background=True, refine=True)
    assert [bool(row["masks"]) for row in rows].count(False) == 1

    parts = files_of(output)
    assert len(parts) == 8
    again = ["cluster", *map(str, command)]
    assert main(again) == 1
    assert f"{output}: 23 pictures segmented, 1 failed; 0 in this run\n" in capsys.readouterr().out
    assert files_of(output) == parts

    assert main([*again, "--threshold", "0.2"]) == 2
    told = capsys.readouterr().err
    assert f"{output} was made with options.threshold " in told
    assert "this run has 0.2; give the same again, or choose another --output" in told
    assert told.count("\n") == 1


def test_lists_shards_and_parquet_files_are_read(exported_bundle: Path, segmenter: Segmenter, tmp_path: Path) -> None:
    paths = write_scenes(tmp_path / "in", 14)
    contents = [path.read_bytes() for path in paths]
    contents[9] = contents[9][:200]
    (tmp_path / "list.txt").write_text(f"in/000.png\n{paths[1]}\n\nin/missing.png\n")
    pyarrow.parquet.write_table(pyarrow.table({"path": ["in/002.png", str(paths[3])]}), tmp_path / "paths.parquet")
    images = [{"bytes": content, "path": None} for content in contents[4:8]]
    pyarrow.parquet.write_table(
        pyarrow.table({"image": images, "id": range(4)}), tmp_path / "images.parquet", row_group_size=3
    )
    shard = tmp_path / "shard-000.tar"
    with tarfile.open(shard, "w") as tar:
        for index, content in enumerate(contents[8:]):
            for suffix, body in (("png", content), ("json", b"{}")):
                member = tarfile.TarInfo(f"{index:03}.{suffix}")
                member.size = len(body)
                tar.addfile(member, io.BytesIO(body))
    inputs = [tmp_path / name for name in ("list.txt", "paths.parquet", "images.parquet")] + [str(tmp_path / "*.tar")]
    output = tmp_path / "out"
    command = arguments_of(exported_bundle, inputs, output, "--rows-per-file", "4")
    with started(*command) as run:
        status, out, err = run.end()
    assert status == 1, err
    assert "16 in this run" not in out
    named = {str(path): path for path in (*paths[:4], tmp_path / "in" / "missing.png")}
    wanted = [row_of(segmenter, path, name) for name, path in named.items()]
    members = [f"{tmp_path / 'images.parquet'}#{row}" for row in range(4)]
    members += [f"{shard}#{index:03}.png" for index in range(6)]
    for name, content in zip(members, contents[4:], strict=True):
        row = row_of(segmenter, content, name)
        if row["error"] is not None:
            row["error"] = row["error"].replace("the image data", name)
        wanted.append(row)
    assert rows_of(output) == sorted(wanted, key=lambda row: row["path"])
    assert [row["path"] for row in wanted if row["error"]] == [str(tmp_path / "in" / "missing.png"), members[5]]
    assert main(["cluster", *map(str, command)]) == 1  # at once: the shard is not opened again
