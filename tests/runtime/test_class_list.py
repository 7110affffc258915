"""Classes as people name them: phrases, negatives, thresholds, from Python, the command line and files."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from t2d_runtime.errors import ClassNamesError, OptionError, T2DError
from t2d_runtime.words.class_files import classes_of_text, parse_words, read_class_file
from t2d_runtime.words.class_list import ClassList, checked_classes
from t2d_runtime.words.text import check_templates


def written(tmp_path: Path, text: str, name: str = "classes.txt") -> Path:
    path = tmp_path / name
    path.write_bytes(text.encode())
    return path


def test_names_are_their_own_phrases() -> None:
    classes = checked_classes(["sky", "sea"])
    assert classes == ClassList({"sky": ("sky",), "sea": ("sea",)})
    assert (classes.names, classes.all_phrases, classes.class_indices) == (("sky", "sea"), ("sky", "sea"), (0, 1))


def test_phrases_follow_class_after_class_then_negatives() -> None:
    classes = checked_classes({"person": ["man", "woman"], "grass": "lawn"}, ["wall"], {"grass": 1})
    assert classes.all_phrases == ("man", "woman", "lawn", "wall")
    assert classes.class_indices == (0, 0, 1, -1)
    assert classes.thresholds == {"grass": 1.0}


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (({"a": ["x"], "b": ["X "]},), ClassNamesError, "the phrase 'X ' is in two classes, 'a' and 'b'"),
        (({"a": ["x", "x"]},), ClassNamesError, "phrases of class 'a': class names 'x' and 'x' are the same"),
        (({"a": []},), ClassNamesError, "phrases of class 'a': expected at least one class name, got none"),
        (({"a": 3},), ClassNamesError, "phrases of class 'a': expected a list of class names, got 3"),
        (({},), ClassNamesError, "expected at least one class name, got none"),
        ((["a"], ["A"]), ClassNamesError, "'A' is a negative and a phrase of class 'a'"),
        ((["a"], "wall"), ClassNamesError, "negatives: expected a list of class names, got 'wall'"),
        ((["a"], [" "]), ClassNamesError, "negatives: class name 0 is ' ', a blank name"),
        ((["a"], [], {"b": 0.5}), OptionError, "a threshold is for 'b', which is not a class; expected some of a"),
        ((["a"], [], {"a": 1.01}), OptionError, "the threshold of 'a' is 1.01, expected a number from 0 to 1"),
        ((["a"], [], {"a": float("nan")}), OptionError, "the threshold of 'a' is nan"),
        ((["a"], [], {"a": "0.5"}), OptionError, "the threshold of 'a' is '0.5'"),
        ((["a"], [], [0.5]), OptionError, "thresholds are"),
    ],
)
def test_what_does_not_fit_is_named(arguments: Any, error: type[T2DError], message: str) -> None:
    with pytest.raises(error, match=message):
        checked_classes(*arguments)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("sky,sea", ("sky", "sea")),
        (" sky , green grass, ", ("sky", "green grass")),
        ("traffic light, st. bernard", ("traffic light", "st. bernard")),
        (r"salt\, pepper,a\;b,c\|d", ("salt, pepper", "a;b", "c|d")),
        ("cats &amp; dogs,sea", ("cats &amp; dogs", "sea")),
        ('["sky", "a,b"]', ("sky", "a,b")),
        ('{"person": ["man", "woman"]}', ("person",)),
    ],
)
def test_words_of_a_command(text: str, names: tuple[str, ...]) -> None:
    assert parse_words(text).names == names


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sky;sea", "hold semicolons; separate words by commas: sky,sea"),
        ("sky . sea .", "hold full stops; separate words by commas: sky,sea"),
        ("sky，sea", "hold full-width commas; separate words by commas: sky,sea"),
        ("天、海", "hold ideographic commas; separate words by commas: 天,海"),
        ("sky|sea", "hold bars"),
        ("天；海", "hold full-width semicolons"),
        ("sky. sea.", "hold full stops; separate words by commas: sky,sea"),
        ("'sky', 'sea'", "in quotation marks, which would be part of them; leave the marks out: sky,sea"),
        ("“sky”,“sea”", "leave the marks out: sky,sea"),
        (r"sky\nsea", "a backslash stands before 'n'"),
        ("sky\nsea", "hold line ends"),
        ('["sky", "sea"', "the classes: not JSON"),
        ('["sky", "sky"]', "the classes: class names 'sky' and 'sky' are the same"),
        ('{"sky": "a", "sky": "b"}', "'sky' is given twice"),
        ("", "class name 0 is '', a blank name"),
        ("sky,,sea", "class name 1 is '', a blank name"),
    ],
)
def test_other_separators_are_told_with_what_was_understood(text: str, message: str) -> None:
    with pytest.raises(ClassNamesError) as caught:
        parse_words(text)
    assert message in str(caught.value)


def test_a_class_file(tmp_path: Path) -> None:
    text = "# what I look for\r\nperson; man ;woman @0.57\r\n\r\n- wall; floor\r\nsky  # the blue part\r\n"
    classes = read_class_file(
        written(tmp_path, "\ufeff" + text + "\\# 1\n\\- 2\ncats &amp; dogs\nroom @ noon @.5\n#tag")
    )
    assert classes.phrases == {
        "person": ("person", "man", "woman"),
        "sky": ("sky",),
        "# 1": ("# 1",),
        "- 2": ("- 2",),
        "cats &amp; dogs": ("cats &amp; dogs",),
        "room @ noon": ("room @ noon",),
        "#tag": ("#tag",),
    }
    assert classes.negatives == ("wall", "floor")
    assert classes.thresholds == {"person": 0.57, "room @ noon": 0.5}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sky, sea, sand\n", "separates classes by commas, as in 'sky, sea, sand'"),
        ("sky,\nsea,\nsand\n", "separates classes by commas, as in 'sky,'"),
        ("sky\nsea; sky\n", "the phrase 'sky' is in two classes, 'sky' and 'sea'"),
        ("sky\nsky\n", "line 2: the class 'sky' is given twice"),
        ("sky @1.2.3\n", "line 1: the threshold is '1.2.3', expected a number from 0 to 1, such as 0.57"),
        ("sky @7\n", "line 1: the threshold is '7', expected a number from 0 to 1"),
        ("sky\nball @-1\n", "line 2: the threshold is '-1', expected a number from 0 to 1"),
        ("ball @ 0,57\n", "line 1: the threshold is '0,57', expected a number from 0 to 1"),
        ("ball @nan\n", "line 1: the threshold is 'nan', expected a number from 0 to 1"),
        ("cat\nroom @ noon\n", "the threshold is 'noon', expected a number from 0 to 1, such as 0.57; write '\\@'"),
        ("cat\n- wall @0.5\n", "line 2: '- wall @0.5' is a negative, which has no threshold"),
        ("cat\n-wall\n", "line 2: '-wall' begins with '-' and no space; write '- ' before a negative, or '\\-'"),
        ("; ;\n", "line 1: '; ;' names no class"),
        ("- sky\n- sea\n", "names no class: '- ' begins a negative; write classes without it"),
        ("# nothing\n", "expected at least one class name, got none"),
        ("sky\n&#160;\n", "a blank name"),
        ("Idx\tName\n1\twall\n", "separates columns by tabs, as in 'Idx\\tName'"),
        ("0: unlabeled\n1: person\n", "numbers its lines, as in '0: unlabeled'"),
        ('"sky"\n"sea"\n', 'in quotation marks, as in "sky"'),
        ("sky\nsalt\\npepper\n", "line 2: a backslash stands before 'n'"),
        ("sky\nsky\u200b\n", r"class name 1 is 'sky\u200b', with a sign that is not seen (U+200B)"),
    ],
)
def test_faults_of_a_class_file_name_it(tmp_path: Path, text: str, message: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises((ClassNamesError, OptionError)) as caught:
        read_class_file(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "phrases"),
    [
        ("R&D; laboratory", ("R&D", "laboratory")),
        ("Q&#x; b", ("Q&#x", "b")),
        ("R&amp;D; laboratory", ("R&amp;D", "laboratory")),
        ("caf&#233;; bar", ("caf&#233;", "bar")),
    ],
)
def test_a_semicolon_belongs_to_a_word_only_where_it_ends_an_html_entity(text: str, phrases: tuple[str, ...]) -> None:
    assert classes_of_text("the text", text).phrases == {phrases[0]: phrases}


def test_a_threshold_may_have_an_exponent_and_its_sign_may_be_part_of_a_name() -> None:
    classes = classes_of_text("the text", "ball @5e-1\nroom \\@ noon\n\\-wall\n")
    assert classes.thresholds == {"ball": 0.5}
    assert classes.names == ("ball", "room @ noon", "-wall")


def test_a_comma_inside_of_one_name_of_many_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert read_class_file(written(tmp_path, "sky\nsalt, pepper\nsea\n")).names == ("sky", "salt, pepper", "sea")
    assert "'salt, pepper' is one class with a comma in its name" in caplog.text
    caplog.clear()
    assert read_class_file(written(tmp_path, "sky\nsalt\\, pepper\nsea\n")).names[1] == "salt, pepper"
    assert caplog.text == ""


def test_json_files(tmp_path: Path) -> None:
    whole = '{"classes": {"person": ["man"]}, "negatives": ["wall"], "thresholds": {"person": 0.4}}'
    assert read_class_file(written(tmp_path, whole, "a.json")) == checked_classes(
        {"person": ["man"]}, ["wall"], {"person": 0.4}
    )
    assert read_class_file(written(tmp_path, '["sky", "sea"]')).names == ("sky", "sea")


def test_a_set_has_no_order_of_labels() -> None:
    with pytest.raises(ClassNamesError, match="got a set, whose order changes from run to run; sort it"):
        checked_classes({"sky", "sea"})
    assert checked_classes({"sky": 1, "sea": 2}.keys()).names == ("sky", "sea")


def test_a_yaml_file_is_not_taken_as_lines(tmp_path: Path) -> None:
    with pytest.raises(ClassNamesError, match="is YAML; expected a text file, one class a line, or JSON"):
        read_class_file(written(tmp_path, "names:\n  0: sky\n  1: sea\n", "data.yaml"))


def test_tabs_beside_signs_and_numbers_in_some_names_are_no_table(tmp_path: Path) -> None:
    classes = read_class_file(written(tmp_path, "sky\t@0.5\nperson;\tman\n1. fc köln\n\t3) sign\n"))
    assert classes.names == ("sky", "person", "1. fc köln", "3) sign")


@pytest.mark.parametrize("name", ["می\u200cخواهم", "👨\u200d👩\u200d👧", "עברית", "🏴\U000e0067\U000e007f"])
def test_joiners_and_marks_that_belong_to_a_word_are_kept(name: str) -> None:
    assert checked_classes([name]).names == (name,)


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "words").write_bytes(b"caf\xe9")
    for path in (tmp_path / "words", tmp_path / "none", tmp_path):
        with pytest.raises(ClassNamesError, match="expected a UTF-8 text file, one class a line"):
            read_class_file(path)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
def test_a_file_in_utf_16_says_how_to_save_it(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "words.txt").write_bytes("\ufeffcat\nsea\n".encode(encoding))
    with pytest.raises(ClassNamesError, match=r"words\.txt: its text is UTF-16; save it as UTF-8; expected a"):
        read_class_file(tmp_path / "words.txt")


def test_the_reason_why_a_file_cannot_be_read_is_in_words(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "latin").write_bytes(b"caf\xe9")
    reasons = {
        "none": "no such file",
        ".": "it is a folder",
        "loop": "its links lead in a circle",
        "a" * 300: "too long",
    }
    for name, reason in {**reasons, "latin": "it is not UTF-8 text, as byte 3 shows", "a\0b": "null byte"}.items():
        with pytest.raises(ClassNamesError, match=reason) as caught:
            read_class_file(tmp_path / name)
        assert "Errno" not in str(caught.value)


def test_a_file_s_content_given_in_place_of_words_is_told_on_one_line() -> None:
    with pytest.raises(ClassNamesError, match="hold semicolons; separate words by commas: sky,heaven sea,ocean"):
        parse_words("sky; heaven\nsea;\nocean")
    with pytest.raises(ClassNamesError) as caught:
        parse_words("word\n" * 1000)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize("nothing", [(), [], "set", "generator", "array"])
def test_no_negatives_may_be_given_in_any_form(nothing: Any) -> None:
    empty = {"set": set(), "generator": iter(()), "array": np.array([], str)}
    given = empty[nothing] if isinstance(nothing, str) else nothing
    assert checked_classes(["sky"], given).negatives == ()


def test_half_of_a_character_is_refused_in_names_and_templates() -> None:
    with pytest.raises(ClassNamesError, match=r"class name 1 is 'a\\ud800', with half of a character"):
        checked_classes(["sky", "a\ud800"])
    with pytest.raises(ClassNamesError, match="with half of a character"):
        parse_words('["\\ud800"]')
    with pytest.raises(OptionError, match=r"the prompt template '\\udfff {}' has half of a character"):
        check_templates(["\udfff {}"])


def test_an_error_lists_twenty_of_many_classes() -> None:
    with pytest.raises(OptionError) as caught:
        checked_classes([f"class number {index}" for index in range(20_000)], thresholds={"zebra": 0.5})
    assert "expected some of class number 0, class number 1," in str(caught.value)
    assert str(caught.value).endswith("class number 19 and 19980 more")
